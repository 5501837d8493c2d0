/**
 * PolicyGradient: one update of an adapter by proximal policy optimisation.
 *
 * A batch of scored answers becomes token rewards with the KL term, advantages by a value head on the detached hidden
 * state, and then some epochs of clipped updates in minibatches (Schulman et al. 2017; Ziegler et al. 2019).
 */
import { Effect } from "effect"
import type { ScoredRollout, UpdateMetrics, UpdateOptions } from "../Policy.ts"
import * as Session from "../onnx/Session.ts"
import * as Random from "../Random.ts"
import type { Adapter } from "./Adapters.ts"
import { groups } from "./Adapters.ts"
import * as Advantages from "./Advantages.ts"
import * as Batch from "./Batch.ts"
import type { Learner, MicroBatch, State } from "./Learner.ts"
import type { Scorer } from "./Scorer.ts"
import { microBatches } from "./Training.ts"

/** An answer with everything that the objective needs, one number for each of its tokens. */
interface Row {
  readonly ids: ReadonlyArray<number>
  /** Prompt tokens. */
  readonly from: number
  readonly logprobs: ReadonlyArray<number>
  readonly values: ReadonlyArray<number>
  readonly advantages: ArrayLike<number>
  readonly returns: ArrayLike<number>
}

/** The models of an update. */
export interface Models {
  readonly adapter: Adapter
  /** What the policy is held near to. */
  readonly reference: Adapter | undefined
  readonly scorer: Scorer
  readonly learner: Learner
  readonly state: State
}

/** The learning rate's factor: rising over the first iterations, then falling linearly to the floor. */
export const rateFactor = (options: UpdateOptions): number => {
  const { floor, iteration, iterations, warmupIterations } = options
  if (iteration < warmupIterations) return (iteration + 1) / (warmupIterations + 1)
  const progress = (iteration - warmupIterations) / Math.max(1, iterations - 1 - warmupIterations)
  return 1 - (1 - floor) * Math.min(1, progress)
}

/** One update, in place on the adapter and the state. */
export const update = Effect.fnUntraced(function* (
  models: Models,
  rollouts: ReadonlyArray<ScoredRollout>,
  options: UpdateOptions
): Effect.fn.Return<UpdateMetrics, Session.SessionError> {
  const started = performance.now()
  const { adapter, learner, reference, scorer, state } = models
  const usable = rollouts.filter((r) => r.tokenIds.length > 0)
  const measured = yield* Effect.forEach(
    usable,
    Effect.fnUntraced(function* (rollout) {
      const ids = [...rollout.promptIds, ...rollout.tokenIds]
      const at = rollout.tokenIds.map((_, t) => rollout.promptIds.length + t - 1)
      const targets = rollout.tokenIds
      const [expected, values] = yield* Effect.all(
        [
          scorer.score({ ids, adapter: reference, kind: "logprobs", at, targets }),
          scorer.score({ ids, adapter, kind: "value", at, targets: [] })
        ],
        { concurrency: 2 }
      )
      const { logprobs } = rollout
      const rewards = Advantages.shapedRewards(logprobs, expected, rollout.reward, options.klCoefficient)
      const kl = logprobs.reduce((sum, x, t) => sum + x - expected[t]!, 0)
      const { advantages, returns } = Advantages.gae(rewards, values, options.gamma, options.lambda)
      return { ids, from: rollout.promptIds.length, logprobs, values, advantages, returns, kl, reward: rollout.reward }
    }),
    { concurrency: "unbounded" }
  )
  const whitened = Advantages.whiten(measured.map((m) => m.advantages))
  const rows = measured.map((m, i): Row => ({ ...m, advantages: whitened.rows[i]! }))

  const factor = rateFactor(options)
  const rates = {
    learningRates: adapter.layout.groups.map(
      ({ name }) => factor * (name === groups.value ? options.valueLearningRate : options.learningRate)
    ),
    weightDecays: adapter.layout.groups.map(() => 0),
    maxGradNorm: options.maxGradNorm
  }
  const sums: Record<string, number> = {}
  let steps = 0
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    const order = Random.make(options.seed, "minibatches", options.iteration, epoch).shuffle(rows)
    for (let from = 0; from < order.length; from += options.minibatchSize) {
      const metrics = yield* learner.step(
        state,
        collate(order.slice(from, from + options.minibatchSize), options),
        rates
      )
      adapter.vector = state.parameters
      steps++
      for (const [name, x] of Object.entries(metrics)) sums[name] = (sums[name] ?? 0) + x
    }
  }
  const mean = (name: string) => (sums[name] ?? 0) / Math.max(1, steps)
  const average = (f: (m: (typeof measured)[number]) => number) =>
    measured.reduce((sum, m) => sum + f(m), 0) / Math.max(1, measured.length)
  return {
    iteration: options.iteration,
    loss: mean("loss"),
    policy_loss: mean("policy_loss"),
    value_loss: mean("value_loss"),
    approx_kl: mean("approx_kl"),
    clipfrac: mean("clipfrac"),
    kl: average((m) => m.kl),
    reward: average((m) => m.reward),
    advantage_std: whitened.std,
    learning_rate: factor * options.learningRate,
    grad_norm: mean("grad_norm"),
    tokens: rows.reduce((n, r) => n + r.ids.length - r.from, 0),
    seconds: (performance.now() - started) / 1000
  }
})

/** A minibatch as the feeds of the `ppo` objective, every answer token with the same weight. */
const collate = (rows: ReadonlyArray<Row>, options: UpdateOptions): ReadonlyArray<MicroBatch> => {
  const total = rows.reduce((n, r) => n + r.ids.length - r.from, 0)
  return microBatches(rows, (r) => r.ids.length, options.microTokens).map((part) => {
    const weighted = part.map((r) => ({ ids: r.ids, weights: r.ids.map((_, t) => (t < r.from ? 0 : 1)) }))
    const { at, targets } = Batch.targets(weighted)
    const perToken = (of: (row: Row) => ArrayLike<number>) =>
      Session.float32(Float32Array.from(part.flatMap((row) => Array.from(of(row)))), [at.length])
    return {
      rows: part.map((r) => r.ids),
      feeds: {
        at: Session.int64(at, [at.length]),
        targets: Session.int64(targets, [targets.length]),
        old_logprobs: perToken((r) => r.logprobs),
        advantages: perToken((r) => r.advantages),
        old_values: perToken((r) => r.values),
        returns: perToken((r) => r.returns),
        weights: Session.float32(new Float32Array(at.length).fill(1 / total), [at.length])
      }
    }
  })
}
