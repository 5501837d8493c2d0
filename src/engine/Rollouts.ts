/**
 * Rollouts: answers that a policy has sampled, as sequences to learn from, and how far they are from a reference.
 */
import { Effect } from "effect"
import type { ScoredRollout } from "../Policy.ts"
import type { Adapter } from "./Adapters.ts"
import * as Batch from "./Batch.ts"
import type { Families, Forward } from "./Forward.ts"
import * as Kl from "./Kl.ts"
import * as Minibatches from "./Minibatches.ts"

/** What computes the numbers of answers, without a gradient. */
export interface Models {
  readonly adapter: Adapter
  /** What the policy is held near to; the base where it is undefined. */
  readonly reference: Adapter | undefined
  readonly forward: Forward
}

/** Tokens of answers to one prompt that are computed together without a gradient, at most. */
const familyTokens = 1024

/** {@link Minibatches.families} of answers, by index. */
export const families = (answers: ReadonlyArray<Pick<Minibatches.Row, "from" | "ids">>): Families => {
  const at = new Map(answers.map((answer, i) => [answer, i]))
  return Minibatches.families(answers, familyTokens).map((family) => family.map((answer) => at.get(answer)!))
}

/** A rollout as a sequence of tokens. */
export interface Answer extends ScoredRollout {
  readonly ids: ReadonlyArray<number>
  /** Prompt tokens. */
  readonly from: number
  /** 1 for the tokens of the answer. */
  readonly weights: ReadonlyArray<number>
}

/** Rollouts as sequences. */
export const answersOf = (rollouts: ReadonlyArray<ScoredRollout>): ReadonlyArray<Answer> =>
  rollouts.map((rollout) => {
    const from = rollout.promptIds.length
    return { ...rollout, from, ...Batch.answerRow([...rollout.promptIds, ...rollout.tokenIds], from) }
  })

/**
 * Answers with the log-probabilities of the policy that they were sampled from: of logits divided by the temperature,
 * which sampling does not tell. `forward` computes them so.
 */
export const atTemperature = Effect.fnUntraced(function* (
  { adapter, forward }: Pick<Models, "adapter" | "forward">,
  answers: ReadonlyArray<Answer>,
  temperature: number
) {
  if (temperature === 1) return answers
  const own = yield* forward.logprobs(adapter, answers, families(answers))
  return answers.map((answer, i): Answer => ({ ...answer, logprobs: own[i]! }))
})

/** Why answers cannot be learnt from: the policy or the reward model computes no numbers any more. */
export const unlearnable = (
  rollouts: ReadonlyArray<Pick<ScoredRollout, "id" | "logprobs" | "reward">>
): string | undefined => {
  for (const { id, logprobs, reward } of rollouts) {
    const logprob = logprobs.find((x) => !Number.isFinite(x))
    if (logprob !== undefined) return `the policy's log-probability of a token of the answer ${id} is ${logprob}`
    if (!Number.isFinite(reward)) return `the reward of the answer ${id} is ${reward}`
  }
  return undefined
}

/** Answers with what the reference makes of them. */
export const against = Effect.fnUntraced(function* (
  { forward, reference }: Pick<Models, "forward" | "reference">,
  answers: ReadonlyArray<Answer>
) {
  const expected = yield* forward.logprobs(reference, answers, families(answers))
  return answers.map((answer, i) => ({
    ...answer,
    expected: expected[i]!,
    kl: Kl.total("k1", answer.logprobs, expected[i]!),
    kl3: Kl.total("k3", answer.logprobs, expected[i]!)
  }))
})

/** An answer with what {@link against} measured of it. */
export type Measured = Effect.Success<ReturnType<typeof against>>[number]

/** The mean of numbers, 0 of none. */
export const meanOf = (numbers: ReadonlyArray<number>): number =>
  numbers.reduce((a, b) => a + b, 0) / Math.max(1, numbers.length)

/** Why the KL is negative or no number, if it is: a reason that needs the policy's own log-probabilities, before it is updated. */
export const diagnose = Effect.fnUntraced(function* (
  { adapter, forward }: Pick<Models, "adapter" | "forward">,
  measured: ReadonlyArray<Measured>
) {
  const k1 = measured.map((m) => m.kl)
  const tokens = meanOf(measured.map((m) => m.logprobs.length))
  const found = Kl.diagnose(k1, tokens, 0)
  if (found === undefined || k1.some((x) => !Number.isFinite(x))) return found
  const own = yield* forward.logprobs(adapter, measured)
  const differences = measured.flatMap(({ logprobs }, i) => logprobs.map((x, t) => Math.abs(x - own[i]![t]!)))
  return Kl.diagnose(
    k1,
    tokens,
    differences.reduce((a, b) => Math.max(a, b), 0)
  )
})
