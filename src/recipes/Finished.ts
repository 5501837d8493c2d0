/**
 * Finished: the phases of a folder that need not be done again, as they stand in `phases.json`.
 *
 * A phase is finished while all files that it left are there; otherwise it is done again, from its state and its
 * records. Which files they are is noted at its end, as only the models know what an adapter consists of.
 */
import { Option, Schema } from "effect"
import { existsSync, readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import type { Manifest } from "./Manifest.ts"

/** A finished phase: the fingerprint that it had, its files, and the keys of its rejected samples. */
export const Phase = Schema.Struct({
  fingerprint: Schema.String,
  files: Schema.Array(Schema.String),
  rejected: Schema.optionalKey(Schema.Array(Schema.String))
})
export type Phase = typeof Phase.Type

/** The finished phases by name. */
export type Phases = Readonly<Record<string, Phase>>

/** What a finished phase does without: the state is there to go on from, and the summary is written at every start. */
const isSpare = (path: string): boolean => path.endsWith("/state") || path === "summary.json"

/** Earlier versions noted only the fingerprint. */
const decodeStored = Schema.decodeUnknownOption(Schema.Record(Schema.String, Schema.Union([Phase, Schema.String])))

/** Of the phases that `phases.json` has, those whose files are there, and whether these are all of them. */
export const check = (
  dir: string,
  manifest: Manifest,
  stored: unknown
): { readonly phases: Phases; readonly areAll: boolean } => {
  const named = (name: string) => (manifest.phases[name]?.files ?? []).filter((path) => !isSpare(path))
  const listed = Object.entries(Option.getOrElse(decodeStored(stored), () => ({})))
  const whole = listed
    .map(([name, phase]) => {
      const noted = typeof phase === "string" ? { fingerprint: phase, files: named(name) } : phase
      return [name, noted] as const
    })
    .filter(([, { files }]) => files.every((file) => existsSync(join(dir, file))))
  return { phases: Object.fromEntries(whole), areAll: whole.length === listed.length }
}

/** The files at a path, which may be a file or a folder; throws. */
const filesAt = (dir: string, path: string): ReadonlyArray<string> => {
  const found = statSync(join(dir, path), { throwIfNoEntry: false })
  if (found?.isDirectory() !== true) return found === undefined ? [] : [path]
  return readdirSync(join(dir, path))
    .toSorted()
    .flatMap((entry) => filesAt(dir, `${path}/${entry}`))
}

/** The finished phases as they stand in `phases.json`. */
export const decode = (stored: unknown): Phases =>
  Object.fromEntries(
    Object.entries(Option.getOrElse(decodeStored(stored), () => ({}))).flatMap(([name, phase]) =>
      typeof phase === "string" ? [] : [[name, phase] as const]
    )
  )

/** Of a phase's samples, those that are among the rejected ones, whose keys begin with their log. */
const rejectedOf = (manifest: Manifest, name: string, rejected: Iterable<string>): ReadonlyArray<string> => {
  const { logs = {}, files = [] } = manifest.phases[name] ?? {}
  // What a training leaves are files to the manifest, though some of them are logs.
  const own = new Set([...Object.keys(logs), ...files])
  return [...rejected].filter((key) => own.has(key.slice(0, key.indexOf(" ")))).toSorted()
}

/** Notes again which samples of a finished phase are rejected. */
export const noted = (phases: Phases, manifest: Manifest, name: string, rejected: Iterable<string>): Phases => ({
  ...phases,
  [name]: { ...phases[name]!, rejected: rejectedOf(manifest, name, rejected) }
})

/** Notes the end of a phase. The phases stand in the order of the manifest, whichever was done again; throws. */
export const addUnsafe = (
  dir: string,
  phases: Phases,
  manifest: Manifest,
  name: string,
  fingerprint: string,
  rejected: Iterable<string>
): Phases => {
  const { logs = {}, files = [] } = manifest.phases[name] ?? {}
  const paths = [...Object.keys(logs), ...files].filter((path) => !isSpare(path))
  const found = { fingerprint, files: paths.flatMap((path) => filesAt(dir, path)) }
  const all = { ...phases, [name]: { ...found, rejected: rejectedOf(manifest, name, rejected) } }
  const order = Object.keys(manifest.phases).filter((name) => Object.hasOwn(all, name))
  return Object.fromEntries([...new Set([...order, ...Object.keys(all)])].map((name) => [name, all[name]!]))
}
