/**
 * Minibatches: steps of an optimizer over scored answers, which share the prompts that they have in common.
 */
import { Effect } from "effect"
import * as Session from "../onnx/Session.ts"
import * as Random from "../Random.ts"
import type { Adapter } from "./Adapters.ts"
import * as Batch from "./Batch.ts"
import * as Layout from "./Layout.ts"
import * as Learner from "./Learner.ts"
import { bounded, microBatches, patience } from "./Training.ts"

/** What learns: an adapter and its state, which a step changes in place. */
export interface Trainee {
  readonly adapter: Adapter
  readonly learner: Learner.Learner
  readonly state: Learner.State
}

/** How minibatches are made of a batch. */
export interface Options {
  readonly seed: number
  readonly iteration: number
  readonly epochs: number
  readonly minibatchSize: number
  readonly microTokens: number
  /** Answers of a micro-batch at most. */
  readonly microRows?: number | undefined
  /** Minibatches that were skipped in a row before this update; 0 if left out. */
  readonly skipped?: number
}

/** An answer with the numbers that an objective asks for: one for each token of the answer, and for the answer. */
export interface Row {
  readonly id: string
  readonly ids: ReadonlyArray<number>
  /** Prompt tokens. */
  readonly from: number
  readonly perToken: Readonly<Record<string, ArrayLike<number>>>
  readonly perSequence: Readonly<Record<string, number>>
}

/** What weights a minibatch's tokens or answers get, given the minibatch. */
export type Weigh = (rows: ReadonlyArray<Row>) => (row: Row) => Pick<Row, "perToken" | "perSequence">

/** Tokens of an answer. */
export const length = (row: Row): number => row.ids.length - row.from

/**
 * Answers in families of one prompt, which share it where that pays and no more than `microTokens` come together, and
 * as even in number as can be.
 */
export const families = <Answer extends Pick<Row, "from" | "ids">>(
  rows: ReadonlyArray<Answer>,
  microTokens: number
): ReadonlyArray<ReadonlyArray<Answer>> =>
  [...Map.groupBy(rows, (row) => row.ids.slice(0, row.from).join()).values()].flatMap((siblings) => {
    for (let parts = 1; parts < siblings.length; parts++) {
      const size = Math.ceil(siblings.length / parts)
      const cut = Array.from({ length: Math.ceil(siblings.length / size) }, (_, i) =>
        siblings.slice(i * size, (i + 1) * size)
      )
      const fits = (family: ReadonlyArray<Answer>): boolean => {
        const ids = family.map((row) => row.ids)
        return family.length === 1 || (Layout.familyTokens(ids) <= microTokens && Layout.pays(ids))
      }
      if (cut.every(fits)) return cut
    }
    return siblings.map((row) => [row])
  })

/** A minibatch as the feeds of an objective. */
export const collate = (
  rows: ReadonlyArray<Row>,
  weigh: Weigh,
  microTokens: number,
  microRows = Infinity
): ReadonlyArray<Learner.MicroBatch> => {
  const weights = weigh(rows)
  const tokens = (family: ReadonlyArray<Row>) => Layout.familyTokens(family.map((row) => row.ids))
  const cut = microBatches(families(rows, microTokens), tokens, microTokens)
  return cut
    .flatMap((together) => bounded(together, microRows))
    .map((groups) => {
      const part = groups.flat()
      let next = 0
      const layout = Layout.make(
        part.map((row) => row.ids),
        groups.map((family) => family.map(() => next++))
      )
      const all = part.map((row) => {
        const more = weights(row)
        return {
          perToken: { ...row.perToken, ...more.perToken },
          perSequence: { ...row.perSequence, ...more.perSequence }
        }
      })
      const answers = part.map((row) => Batch.answerRow(row.ids, row.from))
      const { at, sequence, targets } = Batch.targets(answers, layout)
      return {
        tokens: layout.feeds,
        feeds: {
          at: Session.int64(at, [at.length]),
          targets: Session.int64(targets, [targets.length]),
          ...(Object.keys(all[0]!.perSequence).length === 0
            ? {}
            : { sequence: Session.int64(sequence, [sequence.length]) }),
          ...Object.fromEntries(
            Object.keys(all[0]!.perToken).map((name) => {
              const numbers = all.flatMap((row) => Array.from(row.perToken[name]!))
              return [name, Session.float32(Float32Array.from(numbers), [numbers.length])]
            })
          ),
          ...Object.fromEntries(
            Object.keys(all[0]!.perSequence).map((name) => {
              const numbers = all.map((row) => row.perSequence[name]!)
              return [name, Session.float32(Float32Array.from(numbers), [numbers.length])]
            })
          )
        }
      }
    })
}

/**
 * All epochs of minibatches, in place on the adapter and the state: means of the metrics, the samples of skipped
 * minibatches, how many were skipped in a row up to the end, and whether these were so many that the update stopped.
 */
export const learn = Effect.fnUntraced(function* (
  { adapter, learner, state }: Trainee,
  rows: ReadonlyArray<Row>,
  weigh: Weigh,
  rates: Learner.Rates,
  options: Options
) {
  const sums: Record<string, number> = {}
  const skipped: Array<ReadonlyArray<string>> = []
  let [steps, inARow] = [0, options.skipped ?? 0]
  let stopped = false
  for (let epoch = 0; epoch < options.epochs && !stopped; epoch++) {
    const order = Random.make(options.seed, "minibatches", options.iteration, epoch).shuffle(rows)
    for (let from = 0; from < order.length && !stopped; from += options.minibatchSize) {
      const minibatch = order.slice(from, from + options.minibatchSize)
      const metrics = yield* learner.step(
        state,
        collate(minibatch, weigh, options.microTokens, options.microRows),
        rates
      )
      adapter.vector = state.parameters
      if (!Learner.applied(metrics)) {
        skipped.push(minibatch.map((row) => row.id))
        stopped = ++inARow >= patience
        continue
      }
      inARow = 0
      steps++
      for (const [name, x] of Object.entries(metrics)) sums[name] = (sums[name] ?? 0) + x
    }
  }
  const means = Object.fromEntries(Object.entries(sums).map(([name, x]) => [name, x / Math.max(1, steps)]))
  return { means, skipped, inARow, stopped }
})
