/**
 * The tokens of the sandbox model: markers, bytes, and one token for every word of the corpus.
 *
 * A word token carries the space before it, so a transcript is the plain concatenation of its tokens. The bytes let
 * any text a person types be encoded; the corpus never uses them.
 */
import * as Critiques from "./Critiques.ts"
import * as Principles from "./Principles.ts"
import { markers } from "./Transcript.ts"
import * as World from "./World.ts"

const harmfulCategories = World.categories.filter((category) => category.kind === "harmful")

/** Every template and every word that can fill one. */
const sources: ReadonlyArray<string> = [
  ...World.phrasings,
  ...World.determiners,
  ...World.settings,
  "an",
  ...Object.values(World.comply).flat(),
  ...Object.values(World.engaged).flat(),
  ...World.evasive,
  ...Object.values(World.remarks).flat(),
  ...Object.values(World.slots).flat(),
  ...World.categories.flatMap((category) => [
    ...category.verbs,
    ...category.objects,
    ...category.tools,
    ...category.acts,
    ...category.finishes,
    ...category.reasons,
    ...category.alternatives
  ]),
  ...Object.values(Critiques.beginnings),
  Critiques.mainComplaint,
  ...harmfulCategories.map((category) => Critiques.crimes[category.name] ?? category.name),
  ...Object.values(Critiques.complaints),
  ...Critiques.nothingFound,
  Critiques.evasionFound,
  ...Principles.principles.flatMap((principle) => [principle.critiqueRequest, principle.revisionRequest])
]

/** Comparison requests follow a blank line directly, so their first word has no space. */
const comparisons = [...Principles.principles.map((principle) => principle.comparison), ...Principles.helpfulness]

const split = (text: string): ReadonlyArray<string> => text.split(" ").filter((word) => word !== "")

/** The texts of the word tokens, sorted. */
export const words: ReadonlyArray<string> = [
  ...new Set([
    ...sources.flatMap((source) => split(source.replace(/\{\w+\}/g, " "))).map((word) => ` ${word}`),
    ...comparisons.flatMap((comparison) => split(comparison).map((word, i) => (i === 0 ? word : ` ${word}`)))
  ])
].toSorted()

const isPrintable = (byte: number): boolean =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff)

/**
 * The printable character that stands for each byte in a byte-level BPE vocabulary.
 *
 * Source: `bytes_to_unicode` of GPT-2, https://github.com/openai/gpt-2/blob/master/src/encoder.py
 */
const byteCharacters: ReadonlyArray<string> = (() => {
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++))
})()

const byteLevel = (text: string): string =>
  Array.from(new TextEncoder().encode(text), (byte) => byteCharacters[byte]!).join("")

/** The name of every token in the tokenizer file; its place is its id. Markers first, then bytes, then words. */
export const tokens: ReadonlyArray<string> = [...markers, ...byteCharacters, ...words.map(byteLevel)]

/** The id of a marker. */
export const markerId = (text: string): number => markers.indexOf(text)
