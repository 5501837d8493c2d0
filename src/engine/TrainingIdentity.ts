/**
 * TrainingIdentity: what a state belongs to. Its progress counts steps, and which samples a step has follows from the
 * samples, the seed and the size of a batch: with others, what is left to learn would be something else.
 */
import { createHash } from "node:crypto"
import type { LearnOptions } from "../Policy.ts"
import type { TokenLists } from "./TokenLists.ts"

/** Of updates of a policy, whose samples are others each time. */
export const updates = "updates"

/** Of a training of a kind over samples with these names, tokens and numbers. */
export const of = (
  kind: string,
  { batchSize, seed }: Pick<LearnOptions, "batchSize" | "seed">,
  samples: {
    readonly names: ReadonlyArray<string>
    readonly lists: ReadonlyArray<TokenLists>
    readonly numbers: ReadonlyArray<number>
  }
): string => {
  const hash = createHash("sha256")
  hash.update(JSON.stringify([kind, seed, batchSize, samples.names]))
  hash.update(Float64Array.from(samples.numbers))
  for (const { chunks, ends } of samples.lists) {
    for (const numbers of [ends, ...chunks]) hash.update(numbers)
  }
  return `${kind} ${hash.digest("hex").slice(0, 32)}`
}
