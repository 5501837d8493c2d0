/**
 * TrainFolder: the folder of a training, which can be killed at any moment.
 *
 * - `train.json` says what determines the training; another one is refused, and what differs is named;
 * - `metrics.jsonl` has a line for each step; lines beyond the restored state are cut off, so no step is there twice;
 * - `rejected.jsonl` has the rows that could not be used; `state/` what a resumed training continues from;
 * - `checkpoints/step-N` are the newest of the kept checkpoints, and the best where there is an evaluation;
 * - `summary.json` is written last: where it is, and what was trained, the training is finished.
 */
import { Effect, Schema } from "effect"
import { createHash } from "node:crypto"
import { closeSync, existsSync, openSync, readdirSync, renameSync, rmSync, statSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import type { Reject } from "../data/DataError.ts"
import * as Folder from "../Folder.ts"
import * as Atomic from "../recipes/Atomic.ts"
import * as Lock from "../recipes/Lock.ts"
import type { RunError } from "../recipes/RunError.ts"
import * as Attempt from "./Attempt.ts"
import * as Rejects from "./Rejects.ts"
import * as StepLines from "./StepLines.ts"
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
  readonly resume: (step: number) => Effect.Effect<ReadonlyArray<Line>, RunError | UsageError>
  /** Writes a step's line. */
  readonly append: (line: Line) => Effect.Effect<void, RunError>
  /** Keeps a checkpoint that `write` makes in a folder; all but the newest `keep` and the best one go. */
  readonly keep: <E, R>(
    step: number,
    keep: number,
    best: number | undefined,
    write: (dir: string) => Effect.Effect<void, E, R>
  ) => Effect.Effect<void, E | RunError, R>
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

const Manifest = Schema.Struct({
  format: Schema.Literal(1),
  charter: Schema.String,
  training: Schema.Record(Schema.String, Schema.Unknown)
})

const isManifest = Schema.is(Manifest)

/** What was not recorded at first: a folder without it can be gone on with. */
const later = ["encoded", "ends", "scales"]

const manifestName = "train.json"
const rejectedName = "rejected.jsonl"
const metricsName = "metrics.jsonl"
const summaryName = "summary.json"

/** The files of what is trained: of an adapter, or of a whole model. */
const results = [
  ["adapter_config.json", "adapter_model.safetensors"],
  ["config.json", "model.safetensors"]
]

/** What a process that was killed may leave before its training is begun, or beside a file that it was writing. */
const leftovers = [rejectedName, ...[rejectedName, manifestName, summaryName].map((name) => Atomic.unfinished(name))]

const isLeftover = (name: string): boolean => name.startsWith(Lock.fileName) || leftovers.includes(name)

const damaged = (message: string, dir: string): UsageError =>
  new UsageError({ message: `${message} Without it ${dir} cannot be gone on with; use another --out.` })

/** The file that a path is, or goes through, where it should be a folder. */
const fileAt = (path: string): string | undefined => {
  if (existsSync(path)) return statSync(path).isDirectory() ? undefined : path
  return dirname(path) === path ? undefined : fileAt(dirname(path))
}

/** The columns of `rejected.jsonl`: a file of that name with others is somebody's own, and may be the data. */
const rejectedColumns = ["file", "line", "reason"]

/** Refuses a folder that is another training's or something else; nothing is written. */
const check = Effect.fnUntraced(function* (dir: string, training: Determinants) {
  if (dir === "") return yield* new UsageError({ message: "--out is an empty name; give a folder." })
  const file = fileAt(resolve(dir))
  if (file !== undefined) {
    return yield* new UsageError({ message: `${file} is a file; --out has to be a folder, or a place for one.` })
  }
  const path = join(dir, manifestName)
  const manifest = yield* Effect.mapError(Atomic.readJson(path), ({ message }) => damaged(message, dir))
  if (manifest === undefined) {
    const foreign = yield* Rejects.isTaken(join(dir, rejectedName), rejectedColumns)
    const isOurs = (name: string) => isLeftover(name) && !(foreign && name === rejectedName)
    const there = existsSync(dir) ? readdirSync(dir).filter((name) => !isOurs(name)) : []
    if (there.length > 0) {
      return yield* new UsageError({ message: `${dir} holds ${there[0]} and is no training; use another --out.` })
    }
    return
  }
  if (!isManifest(manifest)) return yield* damaged(`${path} does not say what determines the training.`, dir)
  const older = later.filter((name) => !(name in manifest.training))
  const now = Object.fromEntries(Object.entries(training).filter(([name]) => !older.includes(name)))
  const different = differences(manifest.training, now)
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
  const has = (name: string) => existsSync(path(name))
  // One whose adapter was deleted writes it again, from the state.
  const finished = has(summaryName) && results.some((names) => names.every(has))
  yield* Lock.hold(dir)
  for (const name of readdirSync(dir)) {
    const ours = name === Lock.fileName || name === rejectedName
    if (isLeftover(name) && !ours) rmSync(path(name), { force: true })
  }
  const isNew = !has(manifestName)
  const rejected = path(rejectedName)
  if (isNew && rejects.length === 0) rmSync(rejected, { force: true })
  // One that was deleted is made again: whoever goes on is told to look there.
  if (rejects.length > 0 && (isNew || !(finished || existsSync(rejected)))) {
    const lines = rejects.map(({ file, line, reason }) => `${JSON.stringify({ file, line, reason })}\n`)
    yield* Attempt.write(rejected, () => Atomic.writeUnsafe(rejected, lines.join("")))
  }
  if (isNew) {
    const manifest: typeof Manifest.Type = { format: 1, charter: version, training }
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
    resume: Effect.fnUntraced(function* (step) {
      const isFinished = (line: StepLines.Stepped): line is Line => line.step <= step
      const kept = yield* StepLines.resume(metrics, step, StepLines.isStepped, isFinished)
      fd = yield* Attempt.write(metrics, () => openSync(metrics, "a"))
      return kept
    }),
    append: (line) => StepLines.append(metrics, fd!, [line]),
    keep: Effect.fnUntraced(function* (step, keep, best, write) {
      const name = (of: number) => `step-${of}`
      const beside = path("checkpoints", `.${name(step)}.tmp`)
      yield* Attempt.write(beside, () => {
        rmSync(beside, { recursive: true, force: true })
        Folder.makeUnsafe(beside)
      })
      yield* write(beside)
      const whole = path("checkpoints", name(step))
      yield* Attempt.write(whole, () => {
        rmSync(whole, { recursive: true, force: true })
        renameSync(beside, whole)
        const there = readdirSync(path("checkpoints"))
          .flatMap((entry) => /^step-(\d+)$/.exec(entry)?.[1] ?? [])
          .map(Number)
          .toSorted((a, b) => b - a)
        for (const old of there.slice(keep)) {
          if (old !== best) rmSync(path("checkpoints", name(old)), { recursive: true, force: true })
        }
      })
    }),
    finish: (summary) => Atomic.writeJson(path(summaryName), summary)
  }
  return folder
})
