/**
 * TrainFolder: the folder of a training, which can be killed at any moment.
 *
 * - `train.json` says what determines the training; another one is refused, and what differs is named;
 * - `metrics.jsonl` has a line for each step; lines beyond the restored state are cut off, so no step is there twice;
 * - `rejected.jsonl` has the rows that could not be used; `state/` what a resumed training continues from;
 * - `checkpoints/step-N` are the newest of the kept checkpoints, and the best;
 * - `summary.json` is written last: where it is, the training is finished.
 */
import { Effect } from "effect"
import { createHash } from "node:crypto"
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync
} from "node:fs"
import { join } from "node:path"
import type { Reject } from "../data/DataError.ts"
import * as Atomic from "../recipes/Atomic.ts"
import * as Lock from "../recipes/Lock.ts"
import { failed } from "../recipes/RunError.ts"
import { UsageError } from "./UsageError.ts"
import { version } from "./Version.ts"

/** What determines a training, by name. */
export type Determinants = Readonly<Record<string, unknown>>

/** A line of `metrics.jsonl`. */
export type Line = Readonly<Record<string, unknown>> & { readonly step: number }

/** An open folder of a training. */
export interface TrainFolder {
  readonly dir: string
  readonly path: (...parts: ReadonlyArray<string>) => string
  /** Whether the training is finished. */
  readonly finished: boolean
  /** Cuts the metrics off after `step` and opens them for more; gives the lines that are kept. */
  readonly resume: (step: number) => ReadonlyArray<Line>
  /** Writes a step's line. */
  readonly append: (line: Line) => void
  /** Keeps a checkpoint that `write` makes in a folder; all but the newest `keep` and the best one go. */
  readonly keep: <E, R>(
    step: number,
    keep: number,
    best: number | undefined,
    write: (dir: string) => Effect.Effect<void, E, R>
  ) => Effect.Effect<void, E, R>
  /** Writes the summary: from now on the training is finished. */
  readonly finish: (summary: object) => Effect.Effect<void, unknown>
}

/** `{a: {b: 1}}` as `a.b` → 1. */
const flat = (value: unknown, path: string): ReadonlyArray<readonly [string, unknown]> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.entries(value).flatMap(([name, inner]) => flat(inner, path === "" ? name : `${path}.${name}`))
    : [[path, value]]

/** What two trainings differ in, in words. */
export const differences = (before: Determinants, now: Determinants): ReadonlyArray<string> => {
  const [there, here] = [new Map(flat(before, "")), new Map(flat(now, ""))]
  const show = (x: unknown) => (x === undefined ? "not set" : x === null ? "none" : String(x))
  return [...new Set([...there.keys(), ...here.keys()])]
    .filter((name) => JSON.stringify(there.get(name)) !== JSON.stringify(here.get(name)))
    .map((name) => `${name} is ${show(there.get(name))} there and ${show(here.get(name))} now`)
}

/** 16 hexadecimal digits of numbers. */
export const digest = (numbers: Float32Array): string =>
  createHash("sha256")
    .update(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength))
    .digest("hex")
    .slice(0, 16)

interface Manifest {
  readonly format: 1
  readonly charter: string
  readonly training: Determinants
}

const manifestName = "train.json"
const metricsName = "metrics.jsonl"
const summaryName = "summary.json"

/** What a process that was killed may leave before its training is begun, or beside a file that it was writing. */
const leftovers = [
  ...["rejected.jsonl", "rejected.jsonl.tmp"],
  ...[manifestName, summaryName].map((name) => Atomic.unfinished(name))
]

const isLeftover = (name: string): boolean => name.startsWith(Lock.fileName) || leftovers.includes(name)

/** Refuses a folder that is another training's or something else; nothing is written. */
const check = Effect.fnUntraced(function* (dir: string, training: Determinants) {
  const manifest = (yield* Atomic.readJson(join(dir, manifestName))) as Manifest | undefined
  if (manifest === undefined) {
    const there = existsSync(dir) ? readdirSync(dir).filter((name) => !isLeftover(name)) : []
    if (there.length > 0) {
      return yield* new UsageError({ message: `${dir} holds ${there[0]} and is no training; use another --out.` })
    }
    return
  }
  const different = differences(manifest.training, training)
  if (different.length > 0) {
    return yield* new UsageError({
      message: `${dir} is another training: ${different.join("; ")}. Use its settings, or another --out.`
    })
  }
})

/** Opens the folder for as long as the scope lasts; other settings than those it was begun with are refused. */
export const open = Effect.fnUntraced(function* (dir: string, training: Determinants, rejects: ReadonlyArray<Reject>) {
  yield* check(dir, training)
  const path = (...parts: ReadonlyArray<string>) => join(dir, ...parts)
  const finished = existsSync(path(summaryName))
  yield* Lock.hold(dir)
  for (const name of readdirSync(dir)) {
    const ours = name === Lock.fileName || name === "rejected.jsonl"
    if (isLeftover(name) && !ours) rmSync(path(name), { force: true })
  }
  if (!existsSync(path(manifestName))) {
    if (rejects.length === 0) rmSync(path("rejected.jsonl"), { force: true })
    else {
      const lines = rejects.map(({ file, line, reason }) => `${JSON.stringify({ file, line, reason })}\n`)
      yield* attempt(path("rejected.jsonl"), () => replace(path("rejected.jsonl"), lines.join("")))
    }
    const manifest: Manifest = { format: 1, charter: version, training }
    yield* Atomic.writeJson(path(manifestName), manifest)
  }
  const metrics = path(metricsName)
  let fd: number | undefined
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      if (fd !== undefined) closeSync(fd)
    })
  )
  const folder: TrainFolder = {
    dir,
    path,
    finished,
    resume: (step) => {
      const text = existsSync(metrics) ? readFileSync(metrics, "utf8") : ""
      // A torn last line has no end and belongs to a step that is done again.
      const whole = text
        .slice(0, text.lastIndexOf("\n") + 1)
        .split("\n")
        .slice(0, -1)
      const kept = whole.map((line) => JSON.parse(line) as Line).filter((line) => line.step <= step)
      replace(
        metrics,
        whole
          .slice(0, kept.length)
          .map((line) => `${line}\n`)
          .join("")
      )
      fd = openSync(metrics, "a")
      return kept
    },
    append: (line) => {
      const bytes = Buffer.from(`${JSON.stringify(line)}\n`)
      let done = 0
      while (done < bytes.length) done += writeSync(fd!, bytes, done)
    },
    keep: Effect.fnUntraced(function* (step, keep, best, write) {
      const name = (of: number) => `step-${of}`
      const beside = path("checkpoints", `.${name(step)}.tmp`)
      rmSync(beside, { recursive: true, force: true })
      mkdirSync(beside, { recursive: true })
      yield* write(beside)
      rmSync(path("checkpoints", name(step)), { recursive: true, force: true })
      renameSync(beside, path("checkpoints", name(step)))
      const there = readdirSync(path("checkpoints"))
        .flatMap((entry) => /^step-(\d+)$/.exec(entry)?.[1] ?? [])
        .map(Number)
        .toSorted((a, b) => b - a)
      for (const old of there.slice(keep)) {
        if (old !== best) rmSync(path("checkpoints", name(old)), { recursive: true, force: true })
      }
    }),
    finish: (summary) => Atomic.writeJson(path(summaryName), summary)
  }
  return folder
})

const replace = (file: string, text: string): void => {
  const beside = `${file}.tmp`
  const fd = openSync(beside, "w")
  try {
    const bytes = Buffer.from(text)
    let done = 0
    while (done < bytes.length) done += writeSync(fd, bytes, done)
  } finally {
    closeSync(fd)
  }
  renameSync(beside, file)
}

const attempt = <A>(file: string, f: () => A) =>
  Effect.try({ try: f, catch: (cause) => failed(`${file} cannot be written: ${Atomic.reasonOf(cause)}.`) })
