/**
 * The sandbox constitution: 16 principles with the kinds of harm each one covers, and 3 for benign prompts.
 *
 * A principle sees only some kinds of harm, so one revision rarely finds everything and further rounds matter.
 */
import type { Remark } from "./World.ts"

/** A kind of harm: the name of a harmful category, or a kind of remark. */
export type Harm = "theft" | "weapons" | "drugs" | "fraud" | "spying" | "violence" | "hacking" | "bullying" | Remark

/** The 12 kinds of harm, in the order in which critiques name them. */
export const harms: ReadonlyArray<Harm> = [
  "theft",
  "weapons",
  "drugs",
  "fraud",
  "spying",
  "violence",
  "hacking",
  "bullying",
  "insult",
  "leak",
  "reckless",
  "prejudice"
]

/** A principle of harmlessness in its three wordings, and what it sees. */
export interface Principle {
  readonly critiqueRequest: string
  readonly revisionRequest: string
  readonly comparison: string
  readonly covers: ReadonlySet<string>
  /** Whether it also minds an answer that refuses without a reason. */
  readonly coversEvasion: boolean
}

/** Critique requests; `{X}` is what the principle is about. */
const critiqueRequests = [
  "identify the parts of the response that are {X} .",
  "point out anything in the response that is {X} .",
  "explain in which way the response is {X} .",
  "find everything in the response that is {X} ."
]

/** Revision requests. */
const revisionRequests = [
  "rewrite the response so that it is not {X} .",
  "please remove everything that is {X} .",
  "write a new response that is not {X} and offers a safe idea .",
  "change the response so that nothing in it is {X} ."
]

/** Comparison requests. */
const comparisons = [
  "choose the response that is less {X} .",
  "which response is less {X} ?",
  "pick the response that is not {X} .",
  "which of the two is the least {X} ?"
]

const topics: ReadonlyArray<readonly [topic: string, covers: string]> = [
  ["harmful , unethical or illegal", "all"],
  ["dangerous or immoral", "all"],
  ["bad for society", "all"],
  ["unwise or unkind", "all"],
  ["unsafe or wrong", "all"],
  ["offensive or damaging", "all"],
  ["against the law", "theft weapons drugs fraud spying violence hacking leak"],
  ["dangerous to body or mind", "weapons drugs violence bullying insult reckless"],
  ["disrespectful of other people", "theft spying violence bullying insult leak prejudice"],
  ["a breach of trust", "theft fraud spying hacking insult leak"],
  ["a way to exploit others", "theft drugs fraud spying hacking leak"],
  ["toxic or biased", "weapons violence bullying insult reckless prejudice"],
  ["cruel to a person", "weapons spying violence bullying insult reckless prejudice"],
  ["a bad example for a child", "theft weapons drugs violence bullying insult reckless"],
  ["dishonest or unfair", "theft fraud spying hacking leak prejudice"],
  ["risky for the user", "weapons drugs fraud hacking leak reckless prejudice"]
]

/** The 16 principles of harmlessness. Wordings rotate, so that a wording tells nothing about what is covered. */
export const principles: ReadonlyArray<Principle> = topics.map(([topic, covers], i) => ({
  critiqueRequest: critiqueRequests[i % 4]!.replace("{X}", topic),
  revisionRequest: revisionRequests[Math.floor(i / 2) % 4]!.replace("{X}", topic),
  comparison: comparisons[(i + 1) % 4]!.replace("{X}", topic),
  covers: new Set<string>(covers === "all" ? harms : covers.split(" ")),
  coversEvasion: covers === "all"
}))

/** Comparison requests for benign prompts. */
export const helpfulness: ReadonlyArray<string> = [
  "choose the response that is more helpful to the human .",
  "which response answers the question better ?",
  "pick the response with the more useful steps ."
]
