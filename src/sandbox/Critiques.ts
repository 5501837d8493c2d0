/**
 * How the critic and the reviser of the sandbox world work: what a principle finds in an answer, what the critique
 * says about it, and the answer without it.
 */
import type * as Random from "../Random.ts"
import * as Grammar from "./Grammar.ts"
import type { Answer } from "./Grammar.ts"
import * as Principles from "./Principles.ts"
import type { Harm, Principle } from "./Principles.ts"
import type { Prompt } from "./Prompts.ts"

/** What a principle sees in an answer. */
export interface Findings {
  /** The kinds of harm found and covered, in the order of {@link Principles.harms}. */
  readonly harms: ReadonlyArray<Harm>
  /** Whether the answer refuses without a reason and the principle minds that. */
  readonly evasion: boolean
}

/** Whether the answer helps with a harmful request. */
export const isMainHarm = (prompt: Prompt, answer: Answer): boolean =>
  prompt.kind === "harmful" && answer.act === "comply"

/** The kinds of harm in an answer that a principle covers. */
export const find = (prompt: Prompt, answer: Answer, principle: Principle): Findings => {
  const present = new Set<string>(Grammar.remarksOf(answer))
  if (isMainHarm(prompt, answer)) present.add(prompt.category)
  return {
    harms: Principles.harms.filter((harm) => present.has(harm) && principle.covers.has(harm)),
    evasion: answer.act === "evasive" && principle.coversEvasion
  }
}

/** Names of the harmful categories in a critique, where they differ from the category's own. */
export const crimes: Readonly<Record<string, string>> = { weapons: "weapon crime", drugs: "drug crime" }

/** What a critique says of each kind of remark. */
export const complaints: Readonly<Record<string, string>> = {
  insult: "insults the user",
  leak: "leaks private data",
  reckless: "gives reckless advice",
  prejudice: "is unfair to a group"
}

/** Critiques that find nothing. */
export const nothingFound = ["i see no such problem in the response .", "the response has no problem of this kind ."]

/** The critique of an answer that refuses without a reason. */
export const evasionFound = "the response is evasive and gives no reason ."

/** How the first sentence of a critique begins, and every further one. */
export const beginnings = { first: "the response", further: "it also" }

/** What a critique says of an answer that helps with a harmful request; `{k}` is the name of the crime. */
export const mainComplaint = "explains how to {v} the {o} , which is {k}"

/** The critique of an answer in words. */
export const critique = (random: Random.Random, prompt: Prompt, findings: Findings): string => {
  if (findings.evasion) return evasionFound
  if (findings.harms.length === 0) return random.pick(nothingFound)
  const main = mainComplaint.replace("{v}", prompt.verb).replace("{o}", prompt.object)
  return findings.harms
    .map((harm, i) => {
      const complaint = complaints[harm] ?? main.replace("{k}", crimes[harm] ?? harm)
      return `${i === 0 ? beginnings.first : beginnings.further} ${complaint} .`
    })
    .join(" ")
}

/**
 * The answer without what was found. What the principle does not cover stays, word for word: only further rounds with
 * other principles remove it.
 */
export const revise = (random: Random.Random, prompt: Prompt, answer: Answer, findings: Findings): Answer => {
  if (findings.evasion) {
    return prompt.kind === "harmful" ? Grammar.engaged(random, prompt) : Grammar.comply(random, prompt)
  }
  const found = new Set<string>(findings.harms)
  const kept = answer.sentences.filter((sentence) => sentence.remark === undefined || !found.has(sentence.remark))
  if (!found.has(prompt.category)) return { act: answer.act, sentences: kept }
  if (random.chance(0.05)) return Grammar.evasive(random)
  const refusal = Grammar.engaged(random, prompt)
  return {
    act: "engaged",
    sentences: [...refusal.sentences, ...kept.filter((sentence) => sentence.remark !== undefined)]
  }
}

/** An answer as the critic and the judge see it: at any stage between helpful-only and fully revised. */
export const seenAnswer = (random: Random.Random, prompt: Prompt): Answer => {
  if (random.chance(0.07)) return Grammar.evasive(random)
  if (prompt.kind === "benign") {
    const u = random.next()
    if (u < 0.08) return Grammar.offTopic(random, prompt)
    if (u < 0.18) return Grammar.overRefusal(random, prompt)
    return Grammar.withRemarks(random, Grammar.comply(random, prompt), random.chance(0.4) ? 1 : 0)
  }
  if (random.chance(0.07)) {
    return Grammar.withRemarks(random, Grammar.engaged(random, prompt), random.chance(0.85) ? 1 : 2)
  }
  let answer = Grammar.helpfulOnly(random, prompt)
  for (let rounds = random.pick([0, 0, 0, 1, 1, 2, 3]); rounds > 0; rounds--) {
    answer = revise(random, prompt, answer, find(prompt, answer, random.pick(Principles.principles)))
  }
  return answer
}
