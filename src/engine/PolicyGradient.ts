/**
 * PolicyGradient: one update of a policy from a batch of scored answers: proximal policy optimisation (Schulman et al.
 * 2017; Ziegler et al. 2019), group-relative policy optimisation (Shao et al. 2024) or REINFORCE with leave-one-out
 * advantages (Ahmadian et al. 2024).
 *
 * Rewards become advantages, and then some epochs of clipped updates in minibatches follow.
 */
import { Effect } from "effect"
import type { ScoredRollout, UpdateMetrics, UpdateOptions } from "../Policy.ts"
import type * as Session from "../onnx/Session.ts"
import type { Adapter } from "./Adapters.ts"
import { groups } from "./Adapters.ts"
import * as Advantages from "./Advantages.ts"
import * as Batch from "./Batch.ts"
import type { Forward } from "./Forward.ts"
import * as Kl from "./Kl.ts"
import type * as Learner from "./Learner.ts"
import * as Minibatches from "./Minibatches.ts"
import { TrainingError, patience } from "./Training.ts"

/** The models of an update. */
export interface Models {
  readonly adapter: Adapter
  /** What the policy is held near to; the base where it is undefined. */
  readonly reference: Adapter | undefined
  readonly forward: Forward
  readonly learner: Learner.Learner
  readonly state: Learner.State
}

/** The learning rate's factor: rising over the first iterations, then falling linearly to the floor. */
export const rateFactor = (
  options: Pick<UpdateOptions, "floor" | "iteration" | "iterations" | "warmupIterations">
): number => {
  const { floor, iteration, iterations, warmupIterations } = options
  if (iteration < warmupIterations) return (iteration + 1) / (warmupIterations + 1)
  const progress = (iteration - warmupIterations) / Math.max(1, iterations - 1 - warmupIterations)
  return 1 - (1 - floor) * Math.min(1, progress)
}

/** Tokens of answers to one prompt that are computed together without a gradient, at most. */
const familyTokens = 1024

/** {@link Minibatches.families} of answers by index. */
const indices = (
  answers: ReadonlyArray<Pick<Minibatches.Row, "from" | "ids">>
): ReadonlyArray<ReadonlyArray<number>> => {
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
  const own = yield* forward.logprobs(adapter, answers, indices(answers))
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
  const expected = yield* forward.logprobs(reference, answers, indices(answers))
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

/** Rows of the `ppo` objective: rewards with the KL term become advantages by the value head, then whitened. */
export const ppoRows = Effect.fnUntraced(function* (
  { adapter, forward }: Pick<Models, "adapter" | "forward">,
  measured: ReadonlyArray<Measured>,
  { gamma, klCoefficient, lambda }: Pick<UpdateOptions, "gamma" | "klCoefficient" | "lambda">
) {
  const values = yield* forward.values(adapter, measured, indices(measured))
  const estimated = measured.map(({ expected, logprobs, reward }, i) =>
    Advantages.gae(Advantages.shapedRewards(logprobs, expected, reward, klCoefficient), values[i]!, gamma, lambda)
  )
  const whitened = Advantages.whiten(estimated.map((e) => e.advantages))
  const rows = measured.map(({ from, id, ids, logprobs }, i): Minibatches.Row => ({
    id,
    ids,
    from,
    perToken: {
      old_logprobs: logprobs,
      old_values: values[i]!,
      advantages: whitened.rows[i]!,
      returns: estimated[i]!.returns
    },
    perSequence: {}
  }))
  return { rows, std: whitened.std }
})

const constant = (row: Minibatches.Row, x: number): Float32Array => new Float32Array(Minibatches.length(row)).fill(x)

/** Every token of a minibatch counts the same. */
export const byToken: Minibatches.Weigh = (rows) => {
  const total = rows.reduce((n, row) => n + Minibatches.length(row), 0)
  return (row) => ({ perToken: { weights: constant(row, 1 / total) }, perSequence: {} })
}

/**
 * Rows of the `grpo` objective; the answers to a prompt are `size` neighbours. What the reference makes of them is only
 * needed for a KL term.
 */
export const grpoRows = (
  answers: ReadonlyArray<Answer & Partial<Pick<Measured, "expected">>>,
  size: number,
  scale: boolean
): ReadonlyArray<Minibatches.Row> => {
  const advantages = Advantages.group(
    answers.map((answer) => answer.reward),
    size,
    scale
  )
  return answers.map(({ expected, from, id, ids, logprobs }, i) => ({
    id,
    ids,
    from,
    perToken: {
      old_logprobs: logprobs,
      ...(expected === undefined ? {} : { reference_logprobs: expected }),
      advantages: logprobs.map(() => advantages[i]!)
    },
    perSequence: {}
  }))
}

/** The weights of `grpo`: a mean over all tokens, or over each answer's tokens first. */
export const aggregate =
  (aggregation: "token" | "sequence"): Minibatches.Weigh =>
  (rows) => {
    const total = rows.reduce((n, row) => n + Minibatches.length(row), 0)
    return (row) => ({
      perToken: {
        weights: constant(row, aggregation === "token" ? 1 / total : 1 / (rows.length * Minibatches.length(row))),
        shares: constant(row, 1 / total)
      },
      perSequence: {}
    })
  }

/** Rows of the `rloo` objective: the KL term is part of an answer's reward. */
export const rlooRows = (
  measured: ReadonlyArray<Measured>,
  size: number,
  klCoefficient: number
): ReadonlyArray<Minibatches.Row> => {
  const advantages = Advantages.leaveOneOut(
    measured.map((m) => m.reward - klCoefficient * m.kl),
    size
  )
  return measured.map(({ from, id, ids, logprobs }, i) => ({
    id,
    ids,
    from,
    perToken: { old_logprobs: logprobs },
    perSequence: { advantages: advantages[i]! }
  }))
}

/** The weights of `rloo`: every answer counts the same. */
export const bySequence: Minibatches.Weigh = (rows) => () => ({
  perToken: {},
  perSequence: { weights: 1 / rows.length }
})

/**
 * One update by PPO, in place on the adapter and the state. Fails where the answers, or three minibatches in a row, are
 * not finite; what was done until then stands, so give it copies of both where a failed update is to leave nothing.
 */
export const update = Effect.fnUntraced(function* (
  models: Models,
  rollouts: ReadonlyArray<ScoredRollout>,
  options: UpdateOptions
): Effect.fn.Return<UpdateMetrics, Session.SessionError | TrainingError> {
  const started = performance.now()
  const { adapter } = models
  const why = unlearnable(rollouts)
  if (why !== undefined) {
    return yield* new TrainingError({
      message: `Nothing can be learnt from an update: ${why}; lower the learning rate.`
    })
  }
  const answers = answersOf(rollouts.filter((r) => r.tokenIds.length > 0))
  const measured = yield* against(models, yield* atTemperature(models, answers, options.temperature ?? 1))
  const diagnosis = yield* diagnose(models, measured)
  if (diagnosis !== undefined) yield* Effect.logWarning(diagnosis)
  const { rows, std } = yield* ppoRows(models, measured, options)
  const factor = rateFactor(options)
  const { means, skipped, stopped } = yield* Minibatches.learn(
    models,
    rows,
    byToken,
    {
      learningRates: adapter.layout.groups.map(
        ({ name }) => factor * (name === groups.value ? options.valueLearningRate : options.learningRate)
      ),
      weightDecays: adapter.layout.groups.map(() => 0),
      maxGradNorm: options.maxGradNorm
    },
    options
  )
  for (const ids of skipped) {
    yield* Effect.logWarning(`A minibatch without a finite loss and gradient was skipped: ${ids.join(", ")}.`)
  }
  if (stopped) {
    return yield* new TrainingError({
      message: `${patience} minibatches in a row have no finite loss and gradient; look at their samples, or lower the learning rate.`
    })
  }
  const mean = (name: string) => means[name] ?? 0
  return {
    iteration: options.iteration,
    loss: mean("loss"),
    policy_loss: mean("policy_loss"),
    value_loss: mean("value_loss"),
    approx_kl: mean("approx_kl"),
    clipfrac: mean("clipfrac"),
    kl: meanOf(measured.map((m) => m.kl)),
    reward: meanOf(measured.map((m) => m.reward)),
    advantage_std: std,
    learning_rate: factor * options.learningRate,
    grad_norm: mean("grad_norm"),
    tokens: rows.reduce((n, row) => n + Minibatches.length(row), 0),
    seconds: (performance.now() - started) / 1000
  }
})
