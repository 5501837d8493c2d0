/**
 * PolicyGradient: one update of a policy from a batch of scored answers: proximal policy optimisation (Schulman et al.
 * 2017; Ziegler et al. 2019), group-relative policy optimisation (Shao et al. 2024) or REINFORCE with leave-one-out
 * advantages (Ahmadian et al. 2024).
 *
 * Rewards become advantages, and then some epochs of clipped updates in minibatches follow.
 */
import { Effect } from "effect"
import type { ScoredRollout } from "../Policy.ts"
import * as Advantages from "./Advantages.ts"
import type * as Learner from "./Learner.ts"
import * as Minibatches from "./Minibatches.ts"
import * as Rollouts from "./Rollouts.ts"
import { TrainingError, patience } from "./Training.ts"

/** The models of an update. */
export interface Models extends Rollouts.Models, Minibatches.Trainee {}

/** How rewards become advantages, and what they weigh; the objective that they are for has the same name. */
export type Algorithm =
  | { readonly kind: "ppo"; readonly gamma: number; readonly lambda: number; readonly klCoefficient: number }
  /**
   * Answers to a prompt are `samples` neighbours. The KL term is the objective's; where it is 0, one answer to each prompt
   * is measured against the reference, for `kl` alone.
   */
  | {
      readonly kind: "grpo"
      readonly samples: number
      readonly aggregation: "token" | "sequence"
      readonly klCoefficient: number
    }
  | { readonly kind: "rloo"; readonly samples: number; readonly klCoefficient: number }

/** Rows of the `ppo` objective: rewards with the KL term become advantages by the value head, then whitened. */
export const ppoRows = Effect.fnUntraced(function* (
  { adapter, forward }: Pick<Rollouts.Models, "adapter" | "forward">,
  measured: ReadonlyArray<Rollouts.Measured>,
  { gamma, klCoefficient, lambda }: Omit<Extract<Algorithm, { kind: "ppo" }>, "kind">
) {
  const values = yield* forward.values(adapter, measured, Rollouts.families(measured))
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
  answers: ReadonlyArray<Rollouts.Answer & Partial<Pick<Rollouts.Measured, "expected">>>,
  size: number
): ReadonlyArray<Minibatches.Row> => {
  const advantages = Advantages.group(
    answers.map((answer) => answer.reward),
    size
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
  measured: ReadonlyArray<Rollouts.Measured>,
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

/** What an algorithm learns from answers. */
const lesson = Effect.fnUntraced(function* (
  models: Models,
  answers: ReadonlyArray<Rollouts.Answer>,
  measured: ReadonlyArray<Rollouts.Measured>,
  algorithm: Algorithm
) {
  switch (algorithm.kind) {
    case "ppo": {
      const { rows, std } = yield* ppoRows(models, measured, algorithm)
      return { rows, weigh: byToken, advantage_std: std }
    }
    case "grpo": {
      const { aggregation, klCoefficient, samples } = algorithm
      const rows = grpoRows(klCoefficient === 0 ? answers : measured, samples)
      return { rows, weigh: aggregate(aggregation) }
    }
    case "rloo":
      return { rows: rlooRows(measured, algorithm.samples, algorithm.klCoefficient), weigh: bySequence }
  }
})

/** How an update is made. */
export interface Options extends Minibatches.Options {
  /** The temperature that the answers were sampled at. */
  readonly temperature: number
  /** Hears of a KL that cannot be, and of minibatches that are skipped. */
  readonly warn: (message: string) => Effect.Effect<void>
}

/**
 * One update, in place on the adapter and the state. Fails where the answers, or three minibatches in a row, are not
 * finite; what was done until then stands, so give it copies of both where a failed update is to leave nothing.
 *
 * @returns the answers with the policy's log-probabilities, those of them that were measured against the reference, and
 *   what learning them came to
 */
export const update = Effect.fnUntraced(function* (
  models: Models,
  rollouts: ReadonlyArray<ScoredRollout>,
  algorithm: Algorithm,
  rates: Learner.Rates,
  { temperature, warn, ...options }: Options
) {
  const why = Rollouts.unlearnable(rollouts)
  if (why !== undefined) return yield* new TrainingError({ message: `nothing can be learnt: ${why}` })
  const answers = yield* Rollouts.atTemperature(models, Rollouts.answersOf(rollouts), temperature)
  // Without a KL term one answer to each prompt says how far the policy has moved.
  const isFree = algorithm.kind === "grpo" && algorithm.klCoefficient === 0
  const watched = isFree ? answers.filter((_, i) => i % algorithm.samples === 0) : answers
  const measured = yield* Rollouts.against(models, watched)
  const diagnosis = yield* Rollouts.diagnose(models, measured)
  if (diagnosis !== undefined) yield* warn(diagnosis)
  const { rows, weigh, ...more } = yield* lesson(models, answers, measured, algorithm)
  const learnt = yield* Minibatches.learn(models, rows, weigh, rates, options)
  for (const ids of learnt.skipped) {
    yield* warn(`A minibatch without a finite loss and gradient was skipped: ${ids.join(", ")}.`)
  }
  if (learnt.stopped) {
    return yield* new TrainingError({ message: `${patience} minibatches in a row have no finite loss and gradient` })
  }
  return { ...learnt, ...more, answers, measured }
})
