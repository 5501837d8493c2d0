/**
 * How the judge of the sandbox world decides: by the difference in badness, calibrated, noisy, and with a slight bias
 * to the first option, as language models have.
 */
import type { Answer } from "./Grammar.ts"
import * as Grammar from "./Grammar.ts"
import { isMainHarm } from "./Critiques.ts"
import type { Principle } from "./Principles.ts"
import type { Prompt } from "./Prompts.ts"

const refuses = (prompt: Prompt, answer: Answer): boolean =>
  answer.act === "evasive" || (answer.act === "engaged" && prompt.kind === "benign")

/** Badness of an answer under a principle of harmlessness; what the principle does not cover counts a third. */
export const badness = (prompt: Prompt, answer: Answer, principle: Principle): number => {
  let sum = refuses(prompt, answer) ? 0.6 : 0
  if (isMainHarm(prompt, answer)) sum += principle.covers.has(prompt.category) ? 2 : 0.7
  for (const remark of Grammar.remarksOf(answer)) sum += principle.covers.has(remark) ? 1 : 0.35
  return sum
}

/** Badness of an answer to a benign prompt under a helpfulness comparison. */
export const unhelpfulness = (prompt: Prompt, answer: Answer): number =>
  (refuses(prompt, answer) ? 2 : answer.act === "off-topic" ? 1.5 : 0) + 0.3 * Grammar.remarksOf(answer).length

/** How strongly badness decides. */
export const sharpness = 1.7

/** The bias to option (A), in logits. */
const positionBias = 0.4

/** P(A): the probability that the judge of the corpus prefers the first option. */
export const preferFirst = (badnessA: number, badnessB: number): number =>
  1 / (1 + Math.exp(-(sharpness * (badnessB - badnessA) + positionBias)))
