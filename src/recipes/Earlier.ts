/**
 * Earlier: what a run made before its settings were changed, moved aside as a whole and never deleted.
 *
 * ```
 * earlier/1/manifest.json   what determined it
 * earlier/1/...             the files of the phases that are done again, and copies of the lists of all phases
 * ```
 *
 * A move goes to `earlier/moving`, which gets its number once the run's own manifest is replaced. A move that was cut
 * short is known by that name, and undone when the folder is opened again. What bears a number is never looked at for
 * that: a person may delete any of it.
 */
import { Schema } from "effect"
import { existsSync, readdirSync, renameSync, rmdirSync, rmSync } from "node:fs"
import { dirname, join } from "node:path"
import * as Folder from "../Folder.ts"
import * as Atomic from "./Atomic.ts"
import type { Manifest } from "./Manifest.ts"
import * as Phases from "./Phases.ts"
import * as Retried from "./Retried.ts"

/** The folder in a run's folder. */
export const folder = "earlier"

/** Where a move goes until it is whole. */
const moving = `${folder}/moving`

/** The calls that were finished in a phase which is under way. */
export const callsFile = (phase: string): string => `calls/${phase}.jsonl`

/** Lists that hold something of every phase; the part of the phases that are done again is taken out of them. */
const lists = ["rejected.jsonl", "phases.json", "timings.json"]

const numbers = (dir: string): ReadonlyArray<number> =>
  existsSync(join(dir, folder))
    ? readdirSync(join(dir, folder))
        .map(Number)
        .filter((n) => Number.isInteger(n))
        .toSorted((a, b) => a - b)
    : []

/** The number of the folder that the next move goes to. */
const next = (dir: string): number => (numbers(dir).at(-1) ?? 0) + 1

/** Everything that a phase may have in a folder. */
const pathsOf = (name: string, { logs, files }: Phases.Phase): ReadonlyArray<string> => [
  ...Object.keys(logs),
  ...files,
  callsFile(name)
]

/** What becomes of a folder under another manifest. */
export interface Move {
  readonly kept: ReadonlyArray<string>
  /** Phases that are done again, but for records that still hold. */
  readonly inPart: ReadonlyArray<string>
  readonly again: ReadonlyArray<string>
  /** Where to, from the folder; undefined where there is nothing to be moved. */
  readonly to: string | undefined
  /** What is to be done, one after the other; each may throw. */
  readonly steps: ReadonlyArray<() => void>
}

/** Plans the move of everything that does not hold under another manifest. */
export const plan = (dir: string, before: Manifest, now: Manifest): Move => {
  const begun = Object.entries(before.phases)
    .map(([name, phase]) => {
      const paths = pathsOf(name, phase).filter((path) => existsSync(join(dir, path)))
      const wanted = now.phases[name]
      const holds = paths.some((path) => path in phase.logs && wanted?.logs[path] === phase.logs[path])
      return { name, phase, paths, holds, same: wanted?.fingerprint === phase.fingerprint }
    })
    .filter(({ paths }) => paths.length > 0)
  const phases = begun.filter(({ same }) => !same)
  const named = (phases: typeof begun) => phases.map(({ name }) => name)
  const to = `${folder}/${next(dir)}`
  const aside = (path: string) => join(dir, moving, path)
  const gone = new Set(phases.flatMap(({ name, phase }) => pathsOf(name, phase)))
  // Without a file, too: a phase of a program's own may be done and have none that is known.
  const others = Object.keys(before.phases).filter(
    (name) => now.phases[name]?.fingerprint !== before.phases[name]!.fingerprint
  )
  const replace = () => Atomic.writeUnsafe(join(dir, "manifest.json"), `${JSON.stringify(now, null, 2)}\n`)
  const commit = () => {
    replace()
    renameSync(join(dir, moving), join(dir, to))
  }
  const copy = (path: string) => () => {
    const text = Atomic.readUnsafe(join(dir, path))
    if (text !== undefined) Atomic.writeUnsafe(aside(path), text)
  }
  const move = (path: string) => () => {
    Folder.makeUnsafe(dirname(aside(path)))
    renameSync(join(dir, path), aside(path))
  }
  return {
    kept: named(begun.filter(({ same }) => same)),
    inPart: named(phases.filter(({ holds }) => holds)),
    again: named(phases.filter(({ holds }) => !holds)),
    to: phases.length === 0 ? undefined : to,
    steps:
      phases.length === 0
        ? [() => rewrite(dir, others, gone), replace]
        : [
            copy("manifest.json"),
            ...lists.map(copy),
            ...phases.flatMap(({ paths }) => paths.map(move)),
            () => rewrite(dir, others, gone),
            commit
          ]
  }
}

/** Takes what is about the phases out of the lists. */
const rewrite = (dir: string, phases: ReadonlyArray<string>, gone: ReadonlySet<string>): void => {
  const change = (file: string, f: (text: string) => string) => {
    const text = Atomic.readUnsafe(join(dir, file))
    if (text !== undefined) Atomic.writeUnsafe(join(dir, file), f(text))
  }
  dropRejected(dir, gone)
  const without = (of: object = {}) => Object.fromEntries(Object.entries(of).filter(([name]) => !phases.includes(name)))
  change("phases.json", (text) => `${JSON.stringify(without(JSON.parse(text) as object), null, 2)}\n`)
  change("timings.json", (text) => {
    const timings = JSON.parse(text) as { readonly phases?: object }
    return `${JSON.stringify({ ...timings, phases: without(timings.phases) }, null, 2)}\n`
  })
}

/**
 * Takes the rows about these logs out of `rejected.jsonl`, and those of the input: it is read at every start, and its
 * rows are rejected again then; throws.
 */
export const dropRejected = (dir: string, gone: ReadonlySet<string> = new Set()): void => {
  const file = join(dir, "rejected.jsonl")
  const text = Atomic.readUnsafe(file)
  if (text === undefined) return
  const left = text
    // A torn last line is none.
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .filter((line) => {
      if (line === "") return true
      try {
        const { log } = JSON.parse(line) as { readonly log?: string }
        return log !== undefined && !gone.has(log)
      } catch {
        // A damaged line is named by who reads the rows.
        return true
      }
    })
    .join("\n")
  if (left !== text) Atomic.writeUnsafe(file, left)
}

/** Undoes a move that was cut short, or gives one its number that was whole; throws. */
export const recover = (dir: string, manifest: Manifest): void => {
  const aside = join(dir, moving)
  if (!existsSync(aside)) return
  const there = Atomic.readUnsafe(join(aside, "manifest.json"))
  if (there !== undefined && there !== Atomic.readUnsafe(join(dir, "manifest.json"))) {
    renameSync(aside, join(dir, folder, String(next(dir))))
    return
  }
  const paths = Object.entries(manifest.phases).flatMap(([name, phase]) => pathsOf(name, phase))
  for (const path of [...paths, ...lists]) {
    if (!existsSync(join(aside, path))) continue
    Folder.makeUnsafe(dirname(join(dir, path)))
    renameSync(join(aside, path), join(dir, path))
  }
  rmSync(join(aside, "manifest.json"), { force: true })
  Atomic.cleanUnsafe(aside)
  removeEmpty(aside)
  removeEmpty(join(dir, folder))
}

/** Removes a folder and those in it where they hold nothing. */
const removeEmpty = (dir: string): void => {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    if (entry.isDirectory()) removeEmpty(join(dir, entry.name))
  }
  if (readdirSync(dir).length === 0) rmdirSync(dir)
}

const decode = Schema.decodeUnknownOption(
  Schema.fromJsonString(Schema.Struct({ phases: Schema.Record(Schema.String, Phases.Phase) }))
)

/** The folders, newest first, whose records of a log hold in a run, by log. */
export const sources = (dir: string, now: Manifest): ReadonlyMap<string, ReadonlyArray<string>> => {
  const found = new Map<string, Array<string>>()
  const retries: Array<Retried.Retry> = []
  for (const n of numbers(dir).toReversed()) {
    const aside = join(dir, folder, String(n))
    const manifest = decode(Atomic.readUnsafe(join(aside, "manifest.json")))
    if (manifest._tag === "None") continue
    const there = manifest.value
    const isReplaced = (name: string) => retries.some((retry) => Retried.replaced(retry, there, name))
    for (const [name, { logs }] of Object.entries(now.phases)) {
      if (isReplaced(name)) continue
      for (const [log, hash] of Object.entries(logs)) {
        if (there.phases[name]?.logs[log] !== hash || !existsSync(join(aside, log))) continue
        found.set(log, [...(found.get(log) ?? []), aside])
      }
    }
    // What is older was made without the samples that were tried again then.
    const retry = Retried.of(there)
    if (retry !== undefined) retries.push(retry)
  }
  return found
}

/** The rows of `rejected.jsonl` aside that are about logs whose records hold in a run; may throw. */
export const rejected = (sources: ReadonlyMap<string, ReadonlyArray<string>>): ReadonlyArray<unknown> =>
  [...new Set([...sources.values()].flat())].flatMap((aside) => {
    const text = Atomic.readUnsafe(join(aside, "rejected.jsonl")) ?? ""
    return text
      .slice(0, text.lastIndexOf("\n") + 1)
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as { readonly log?: string })
      .filter(({ log }) => log !== undefined && sources.get(log)?.includes(aside) === true)
  })

/** What is done about another manifest, in a sentence: what changed, what is kept and what is done again. */
export const words = (differences: ReadonlyArray<string>, { kept, inPart, again, to }: Move): string | undefined => {
  if (to === undefined) return undefined
  const shown =
    differences.length === 0
      ? "This version of Charter works otherwise than the one that began the run"
      : differences.slice(0, 3).join(", ")
  const more = differences.length > 3 ? ` (and ${differences.length - 3} more)` : ""
  const are = (names: ReadonlyArray<string>) => `${list(names)} ${names.length === 1 ? "is" : "are"}`
  const parts = [
    ...(kept.length === 0 ? [] : [`${are(kept)} kept`]),
    ...(again.length === 0 ? [] : [`${are(again)} done again`]),
    ...(inPart.length === 0 ? [] : [`${are(inPart)} done again in part`]),
    `what was there is in ${to}`
  ]
  return `${shown}${more}: ${parts.join("; ")}.`
}

const list = (names: ReadonlyArray<string>): string =>
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`
