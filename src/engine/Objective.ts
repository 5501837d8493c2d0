/**
 * Objective: what a training minimises, as a value.
 *
 * An objective is a function from the program's outputs to a scalar loss and named metrics, written with the operators
 * of `onnx/Op`; its gradient comes from `onnx/Gradient`. So does that of an objective of your own:
 *
 * @example
 * // Confidence is penalised: L = −Σ w log p + λ Σ w p.
 * const cautious = (lambda: number) =>
 *   Objective.make({
 *     name: "cautious",
 *     inputs: { weights: Objective.perToken },
 *     build: (outputs, { weights }) => {
 *       const logprobs = outputs.logprobs()
 *       const confidence = Objective.mean(Op.exp(logprobs), weights)
 *       const loss = Op.sub(Op.scale(confidence, lambda), Objective.mean(logprobs, weights))
 *       return { loss, metrics: { confidence } }
 *     }
 *   })
 */
import type { DType, Shape, Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import { make, mean, perToken } from "./ObjectiveTerms.ts"

export { indicator, make, mean, pairOf, perPair, perSequence, perToken, sequenceOf, sums } from "./ObjectiveTerms.ts"
export { grpo, ppo, rloo, type GrpoOptions, type PpoOptions } from "./PolicyObjective.ts"
export { bradleyTerry, dpo, type DpoOptions } from "./PreferenceObjective.ts"

/** What a learning program can compute for an objective: N tokens that count, S scored sequences. */
export interface Outputs {
  /** log p of each target token given those before it, nats [N]. */
  readonly logprobs: () => Value
  /** The value head's prediction at each of these tokens [N]; no gradient reaches the network through it. */
  readonly values: () => Value
  /** The score head's scalar for each sequence, read on its last token [S]. */
  readonly scores: () => Value
}

/** A loss to be minimised and the metrics reported beside it, all scalars. */
export interface Result {
  readonly loss: Value
  readonly metrics: Readonly<Record<string, Value>>
}

/** An objective: the tensors it needs from the data, by name, and what it makes of them. Made by {@link make}. */
export interface Objective {
  readonly name: string
  readonly inputs: Readonly<Record<string, { readonly dtype: DType; readonly shape: Shape }>>
  readonly build: (outputs: Outputs, inputs: Readonly<Record<string, Value>>) => Result
}

/**
 * Cross-entropy: L = −Σ wᵢ log p(xᵢ). With equal weights over the unmasked tokens it is the mean negative
 * log-likelihood, Hugging Face's loss.
 */
export const sft: Objective = make({
  name: "sft",
  inputs: { weights: perToken },
  build: (outputs, { weights }) => ({ loss: Op.neg(mean(outputs.logprobs(), weights)), metrics: {} })
})
