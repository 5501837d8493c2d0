/**
 * Overrides: settings given by path, `supervised.rounds=2`, checked one by one before anything begins.
 */
import { Exit, Result, Schema } from "effect"
import { Settings } from "./Settings.ts"

/** Values by path, in the order in which they were given; a later one wins. */
export type Overrides = ReadonlyMap<string, unknown>

type Fields = Readonly<Record<string, Schema.Top>>

const leaves = (fields: Fields, prefix = ""): Array<readonly [path: string, schema: Schema.Top]> =>
  Object.entries(fields).flatMap(([name, schema]) =>
    "fields" in schema ? leaves(schema.fields as Fields, `${prefix}${name}.`) : [[`${prefix}${name}`, schema] as const]
  )

const schemas: ReadonlyMap<string, Schema.Top> = new Map(leaves(Settings.fields))

/** The paths of all settings. */
export const paths: ReadonlyArray<string> = [...schemas.keys()]

/** The number of single-character edits between two texts (Levenshtein 1966). */
export const distance = (a: string, b: string): number => {
  let above = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(substitution, above[j]! + 1, row[j - 1]! + 1))
    }
    above = row
  }
  return above[b.length]!
}

/** The path that a wrong one was most probably meant to be; a path without its group counts as near. */
export const nearest = (wrong: string): string => {
  const plain = (path: string) => path.toLowerCase().replace(/[_-]/g, "")
  const score = (path: string) =>
    Math.min(distance(plain(wrong), plain(path)), distance(plain(wrong), plain(path.split(".").at(-1)!)) + 1)
  return paths.reduce((best, path) => (score(path) < score(best) ? path : best))
}

/** A text as the number or the truth value that it looks like: no setting is a text that looks like one. */
const plain = (text: string): unknown => {
  if (text === "true" || text === "false") return text === "true"
  return text === "" || Number.isNaN(Number(text)) ? text : Number(text)
}

/** One assignment `path=value`, or what is wrong with it in a sentence. */
const parseOne = (assignment: string): Result.Result<readonly [string, unknown], string> => {
  const at = assignment.indexOf("=")
  if (at <= 0) return Result.fail(`--set needs path=value, and "${assignment}" is not one; try supervised.rounds=2.`)
  const path = assignment.slice(0, at).trim()
  const text = assignment.slice(at + 1).trim()
  const schema = schemas.get(path)
  if (schema === undefined) return Result.fail(`There is no setting "${path}"; did you mean ${nearest(path)}?`)
  const decode = Schema.decodeUnknownExit(schema as Schema.Codec<unknown>)
  const value = decode(plain(text))
  if (Exit.isSuccess(value)) return Result.succeed([path, value.value])
  const description = Schema.resolveAnnotations(schema)?.description ?? "of another type"
  return Result.fail(`${path} has to be ${String(description)}, and "${text}" is not.`)
}

/** The assignments as values by path, or what is wrong with the first wrong one. */
export const parse = (assignments: ReadonlyArray<string>): Result.Result<Overrides, string> =>
  Result.map(Result.all(assignments.map(parseOne)), (entries) => new Map(entries))

/** Settings with the overrides in their places. */
export const apply = (settings: Settings, overrides: Overrides): Settings => {
  const copy = structuredClone(settings) as Record<string, unknown>
  for (const [path, value] of overrides) {
    const [first = "", second] = path.split(".")
    if (second === undefined) copy[first] = value
    else copy[first] = { ...(copy[first] as object), [second]: value }
  }
  return copy as Settings
}

/** Settings as values by path, for showing and comparing. */
export const flatten = (settings: Settings): ReadonlyMap<string, unknown> =>
  new Map(
    paths.map((path) => [
      path,
      path.split(".").reduce((at: unknown, key) => (at as Record<string, unknown>)[key], settings)
    ])
  )
