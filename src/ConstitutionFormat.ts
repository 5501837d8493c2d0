/**
 * The file formats of a constitution, and where in the file a fault is.
 *
 * - Charter's own, as YAML or JSON: `name`, `revision: [{ id, critique, revision, weight? }]`,
 *   `comparison: [{ id, principle, weight? }]`, `helpfulness: [{ id, principle, weight? }]`,
 *   `fewShot: { revision?, comparison? }`; `comparison` is a text or `[{ prompt, chosen, rejected }]`.
 * - The published `CritiqueRevisionInstructions.json`: `{ harmful0: { prompt: [critique request], edit_request } }`.
 * - The published `RLMadisonInstructions.json`: an array of comparison principles.
 * - The published few-shot files: `CritiqueRevisionFewShotPrompts.json`, an array of transcripts, and
 *   `RLMadisonFewShotPrompts.json`, an array of `{ prompt, corrects: [answer], incorrects: [answer] }`.
 * - Plain text: one principle a line.
 *
 * @internal
 */
import { Predicate, Schema } from "effect"
import { Yaml } from "effect/encoding"
import type { Principles } from "./Constitution.ts"
import * as HhRlhf from "./data/HhRlhf.ts"
import * as JsonNames from "./data/JsonNames.ts"

/** What a file holds, as Charter's own format; not yet checked. */
export interface Parsed {
  readonly _tag: "Parsed"
  readonly name: string
  readonly value: Readonly<Record<string, unknown>>
  /** The line (from 1) of a place in `value`, where it is known. */
  readonly lineOf: (path: ReadonlyArray<PropertyKey>) => number | undefined
}

/** A text that is not of the format it claims to be. */
export interface Bad {
  readonly _tag: "Bad"
  readonly line?: number | undefined
  readonly fact: string
}

/** What is looked for in a folder. */
export const ownFiles = ["constitution.yaml", "constitution.yml", "constitution.json"]
export const publishedFiles = [
  { name: "CritiqueRevisionInstructions.json", part: "revision" },
  { name: "CritiqueRevisionFewShotPrompts.json", part: "fewShot" },
  { name: "RLMadisonInstructions.json", part: "comparison" },
  { name: "RLMadisonFewShotPrompts.json", part: "fewShot" }
] as const

/** The principles of a whole constitution as plain values. */
export const encode = ({ revision, comparison, helpfulness }: Principles) => ({ revision, comparison, helpfulness })

const bad = (fact: string, line?: number): Bad => ({ _tag: "Bad", fact, line })

/** Reads one file. JSON and YAML are told by the name or, where the name says nothing, by the text. */
export const parse = (text: string, path: string): Parsed | Bad => {
  const file = path.replace(/\.(gz|zstd?)$/i, "")
  const name = file
    .split(/[\\/]/)
    .at(-1)!
    .replace(/\.\w+$/, "")
  if (text.trim() === "") return bad("the file is empty; write at least one principle")
  if (/\.json$/i.test(file) || /^\s*[[{]/.test(text)) return json(text, name)
  if (/\.ya?ml$/i.test(file) || /^(revision|comparison|helpfulness):/m.test(text)) return yaml(text, name)
  return plain(text, name)
}

const json = (text: string, name: string): Parsed | Bad => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const message = (error as Error).message
    return bad(`is not JSON: ${message.replaceAll("\n", " ")}`, lineOfJsonError(text, message))
  }
  const twice = JsonNames.twice(text, value)
  if (twice !== undefined) return bad(`has the key "${twice}" twice in one object; write it once`)
  if (Array.isArray(value)) return publishedArray(value, text, name)
  if (!Predicate.isObject(value)) return bad("holds neither an object nor an array of principles", 1)
  const entries = Object.values(value)
  const published = entries.some((entry) => Predicate.isObject(entry) && "edit_request" in entry)
  return published ? publishedRevision(value, text, name) : own(value, text, name, /\{/g)
}

/** V8 names the position, quotes the ten characters before it, or says that the text ended. */
const lineOfJsonError = (text: string, message: string): number | undefined => {
  const position = /at position (\d+)/.exec(message)?.[1]
  if (position !== undefined) return lineAt(text, Number(position))
  const quoted = /, \.\.\."([^]*?)"(\.\.\.)? is not valid JSON$/.exec(message)?.[1]
  if (quoted !== undefined) return lineAt(text, text.indexOf(quoted) + 10)
  return message.startsWith("Unexpected end") ? lineAt(text.trimEnd(), text.length) : undefined
}

const yaml = (text: string, name: string): Parsed | Bad => {
  let value: unknown
  try {
    value = Yaml.parse(text)
  } catch (error) {
    const message = (error as Error).message
    const line = /^(.*) at line (\d+)$/s.exec(message)
    return bad(`is not YAML: ${line?.[1] ?? message}`, line === null ? undefined : Number(line[2]))
  }
  if (Predicate.isObject(value)) return own(value, text, name, /^\s*-(?=\s)/gm)
  return bad("holds no mapping; begin with the keys name, revision and comparison", 1)
}

/** The keys of Charter's own format, and those of the objects that stand under them; a leaf is a text or a number. */
interface Keys {
  readonly [key: string]: Keys
}
const comparison: Keys = { id: {}, principle: {}, weight: {} }
const keys: Keys = {
  name: {},
  revision: { id: {}, critique: {}, revision: {}, weight: {} },
  comparison,
  helpfulness: comparison,
  fewShot: { revision: {}, comparison: { prompt: { role: {}, content: {} }, chosen: {}, rejected: {} } }
}

/** The first key that the format does not have, as a path; a weight that is misspelt would count for nothing. */
const unknownKey = (
  value: unknown,
  known: Keys,
  path: ReadonlyArray<PropertyKey> = []
): { readonly path: ReadonlyArray<PropertyKey>; readonly known: Keys } | undefined => {
  // Where a text or a number is to stand, the schema says what is wrong.
  if (!Predicate.isObjectOrArray(value) || Object.keys(known).length === 0) return undefined
  for (const [key, inner] of Object.entries(value)) {
    if (!Array.isArray(value) && !Object.hasOwn(known, key)) return { path: [...path, key], known }
    const found = Array.isArray(value)
      ? unknownKey(inner, known, [...path, Number(key)])
      : unknownKey(inner, known[key]!, [...path, key])
    if (found !== undefined) return found
  }
  return undefined
}

const own = (value: object, text: string, name: string, item: RegExp): Parsed | Bad => {
  const lineOf = (path: ReadonlyArray<PropertyKey>) => {
    const [key, index] = path
    const start = new RegExp(`^\\s*[{,]?\\s*"?${String(key)}"?\\s*:`, "m").exec(text)
    if (start === null) return undefined
    const from = start.index + start[0].length
    if (typeof index !== "number") return lineAt(text, from)
    const place = [...text.slice(from).matchAll(item)][index]
    return lineAt(text, place === undefined ? from : from + place.index + place[0].length)
  }
  const unknown = unknownKey(value, keys)
  if (unknown !== undefined) {
    const [key, ...above] = unknown.path.toReversed()
    const at = above.length === 0 ? "" : `${placeOf(above.toReversed())}: `
    const fact = `${at}unknown key "${String(key)}"; the keys are ${Object.keys(unknown.known).join(", ")}`
    return bad(fact, lineOf(unknown.path))
  }
  if (!("revision" in value) && !("comparison" in value))
    return bad("has neither revision nor comparison principles", 1)
  return { _tag: "Parsed", name, value: { ...value }, lineOf }
}

/** A line of a published file: the place of the n-th entry is where its own words are. */
const lineOfText = (text: string, words: unknown) => {
  const at = text.indexOf(JSON.stringify(words))
  return at < 0 ? undefined : lineAt(text, at)
}

const publishedRevision = (value: object, text: string, name: string): Parsed | Bad => {
  const revision: Array<unknown> = []
  for (const [id, entry] of Object.entries(value) as Array<[string, unknown]>) {
    const critique: unknown = Predicate.isObject(entry) && Array.isArray(entry.prompt) ? entry.prompt[0] : undefined
    const request: unknown = Predicate.isObject(entry) ? entry.edit_request : undefined
    if (typeof critique !== "string" || typeof request !== "string") {
      return bad(`"${id}" must be { "prompt": [critique request], "edit_request": text }`, lineOfText(text, id))
    }
    revision.push({
      id,
      critique: between(critique, "CritiqueRequest:", "Critique:"),
      revision: between(request, "RevisionRequest:", "Revision:")
    })
  }
  const ids = Object.keys(value)
  return { _tag: "Parsed", name, value: { revision }, lineOf: ([, i]) => lineOfText(text, ids[Number(i)]) }
}

/** Examples are told from principles by what stands in them. */
const publishedArray = (value: ReadonlyArray<unknown>, text: string, name: string): Parsed | Bad => {
  if (value.some((entry) => Predicate.isObject(entry))) return publishedComparisonExamples(value, text, name)
  return value.some((entry) => typeof entry === "string" && entry.includes("\n\nCritiqueRequest:"))
    ? publishedRevisionExamples(value, text, name)
    : publishedComparison(value, text, name)
}

/** Each ends where the next human would speak; the transcript writes that mark itself. */
const publishedRevisionExamples = (value: ReadonlyArray<unknown>, text: string, name: string): Parsed | Bad => {
  const wrong = value.findIndex((entry) => typeof entry !== "string" || !entry.includes("\n\nRevision:"))
  if (wrong >= 0) return bad(`element ${wrong} is not a transcript with a revision`, lineOfText(text, value[wrong]))
  const revision = (value as ReadonlyArray<string>).map((entry) => `\n\n${between(entry, "", "Human:")}`).join("")
  return { _tag: "Parsed", name, value: { fewShot: { revision } }, lineOf: () => undefined }
}

const publishedComparisonExamples = (value: ReadonlyArray<unknown>, text: string, name: string): Parsed | Bad => {
  const comparison: Array<unknown> = []
  for (const [i, entry] of value.entries()) {
    const first = (texts: unknown): unknown => (Array.isArray(texts) ? texts[0] : undefined)
    const [prompt, chosen, rejected] = Predicate.isObject(entry)
      ? [entry.prompt, first(entry.corrects), first(entry.incorrects)]
      : []
    if (typeof prompt !== "string" || typeof chosen !== "string" || typeof rejected !== "string") {
      const shape = '{ "prompt": text, "corrects": [text], "incorrects": [text] }'
      return bad(
        `element ${i} must be ${shape}`,
        Predicate.isObject(entry) ? lineOfText(text, entry.prompt) : undefined
      )
    }
    comparison.push({ prompt: HhRlhf.messages(prompt), chosen: chosen.trim(), rejected: rejected.trim() })
  }
  return { _tag: "Parsed", name, value: { fewShot: { comparison } }, lineOf: () => undefined }
}

const publishedComparison = (value: ReadonlyArray<unknown>, text: string, name: string): Parsed | Bad => {
  const wrong = value.findIndex((entry) => typeof entry !== "string")
  if (wrong >= 0) return bad(`element ${wrong} is not a text`, lineOfText(text, value[wrong]))
  const comparison = (value as ReadonlyArray<string>).map((entry, i) => ({
    id: `comparison${i}`,
    principle: between(entry, "", "Options:")
  }))
  return { _tag: "Parsed", name, value: { comparison }, lineOf: ([, i]) => lineOfText(text, value[Number(i)]) }
}

/** One principle a line, in our own wording; blank lines and `#` comments are passed over, list marks are dropped. */
const plain = (text: string, name: string): Parsed | Bad => {
  const lines = text
    .split("\n")
    .map((line, i) => ({ number: i + 1, text: line.trim().replace(/^([-*•]|\d+[.)])\s+/, "") }))
    .filter((line) => line.text !== "" && !line.text.startsWith("#"))
  if (lines.length === 0) return bad("holds only comments; write one principle a line", 1)
  const value = {
    revision: lines.map((line, i) => ({
      id: `principle${i + 1}`,
      critique: `Point out where the assistant's last response goes against this principle: ${line.text}`,
      revision: `Rewrite the assistant's response so that it keeps to this principle: ${line.text}`
    })),
    comparison: lines.map((line, i) => ({
      id: `principle${i + 1}`,
      principle: `Choose the response that better keeps to this principle: ${line.text}`
    }))
  }
  return { _tag: "Parsed", name, value, lineOf: ([, i]) => lines[Number(i)]?.number }
}

/** The published requests carry the marks of the transcript, which the transcript writes itself. */
const between = (text: string, before: string, after: string): string => {
  let out = text.trim()
  if (out.startsWith(before)) out = out.slice(before.length)
  if (out.endsWith(after)) out = out.slice(0, -after.length)
  return out.trim()
}

const lineAt = (text: string, position: number): number => text.slice(0, position).split("\n").length

/** A place in a value as it is written in programs: `revision[0].weight`. */
const placeOf = (path: ReadonlyArray<PropertyKey>): string =>
  path
    .map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`))
    .join("")
    .slice(1)

/** The first fault that a schema finds, in words, and where. */
export const firstIssue = (error: Schema.SchemaError): { path: ReadonlyArray<PropertyKey>; fact: string } => {
  const path: Array<PropertyKey> = []
  for (const [, quoted, index] of error.message.matchAll(/\["([^"]+)"\]|\[(\d+)\]/g)) {
    path.push(quoted ?? Number(index))
  }
  const fact = error.message.split("\n")[0]!.trim()
  return { path, fact: path.length === 0 ? fact : `${placeOf(path)}: ${fact}` }
}
