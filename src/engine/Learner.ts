/**
 * Learner: trains a flat vector of parameters by an objective over a frozen or fully trained network.
 *
 * It knows rows of token ids, not text, and batches, not data sets: what comes in which order is the caller's affair
 * (`engine/Training.ts`).
 */
import { Duration, Effect, Exit, Scope } from "effect"
import * as Session from "../onnx/Session.ts"
import type { Base } from "./Base.ts"
import * as HeadLoss from "./HeadLoss.ts"
import * as Layout from "./Layout.ts"
import * as LearnProgram from "./LearnProgram.ts"
import type { Objective } from "./Objective.ts"
import * as Optimizer from "./Optimizer.ts"
import * as Program from "./Program.ts"
import * as Trainables from "./Trainables.ts"

/** Parameters, moments and the number of steps done: all that a resumed training needs of the optimizer. */
export interface State extends Optimizer.Vectors {
  step: number
}

/** A fresh state that begins with the given parameters. */
export const initialState = (parameters: Float32Array): State => ({
  parameters: parameters.slice(),
  m: new Float32Array(parameters.length),
  v: new Float32Array(parameters.length),
  step: 0
})

/** A state of its own with the same numbers: a step changes those of the one that it is given. */
export const copyOf = ({ m, parameters, step, v }: State): State => ({
  parameters: parameters.slice(),
  m: m.slice(),
  v: v.slice(),
  step
})

/** Rows that are computed together. */
export interface MicroBatch {
  /** The tokens as a `Layout` has them. */
  readonly tokens: () => Session.Feeds
  /** By input name: `at`, `targets`, `weights`, and what else the objective asks for. */
  readonly feeds: Session.Feeds
}

/** Rates of one optimizer step, one number for each group of the layout. */
export interface Rates {
  readonly learningRates: ReadonlyArray<number>
  readonly weightDecays: ReadonlyArray<number>
  readonly maxGradNorm: number
}

/** Loss and the objective's metrics. */
export type Measured = Readonly<Record<string, number>> & { readonly loss: number }

/** Besides loss and metrics the gradient's norm before clipping. */
export type Metrics = Measured & { readonly grad_norm: number }

/** Whether a step changed anything: one with a loss, gradient or result that is not finite is skipped. */
export const applied = ({ grad_norm, loss }: Metrics): boolean => Number.isFinite(loss) && Number.isFinite(grad_norm)

/** A compiled training. */
export interface Learner {
  /** One optimizer step over the micro-batches, in place on `state`, unless loss or gradient are not finite. */
  readonly step: (
    state: State,
    batch: ReadonlyArray<MicroBatch>,
    rates: Rates
  ) => Effect.Effect<Metrics, Session.SessionError>
  /** Loss and metrics of the micro-batches under the parameters, which stay as they are. */
  readonly measure: (
    parameters: Float32Array,
    batch: ReadonlyArray<MicroBatch>
  ) => Effect.Effect<Measured, Session.SessionError>
}

/** How a training is compiled. */
export interface Options {
  /** The tokens of a micro-batch at most: the head's chunks are laid out for so many. */
  readonly microTokens: number
  /** Layers are computed again in the backward pass instead of kept. */
  readonly recompute?: boolean
  /** What logits are divided by for log-probabilities; 1 if not given. */
  readonly temperature?: number | undefined
}

/** Compiles an objective over a checkpoint. Graphs are compiled when first needed and released with the scope. */
export const make = Effect.fnUntraced(function* (
  checkpoint: Base,
  trained: LearnProgram.Trained,
  objective: Objective,
  { microTokens, recompute = false, temperature = 1 }: Options
): Effect.fn.Return<Learner, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const { device = "cpu" } = checkpoint
  // Each map is multiplied both ways. In the order of the fastest product fp32 would be there twice, for little; in 8
  // bits, where the transposed maps are copies in any case, it takes no more memory.
  const weights = checkpoint.quantized === undefined ? "unpacked" : "resident"
  const options = { folder: Program.weightsFolder, weights, device } as const
  const compile = (build: () => LearnProgram.LearnGraph) =>
    Effect.cachedWithTTL(
      Effect.suspend(() => {
        const { graph, metrics } = build()
        const made = Effect.provideService(Session.make(graph, options), Scope.Scope, scope)
        return Effect.map(made, (session) => ({ session, metrics }))
      }),
      // What could not be compiled is compiled again when it is next asked for: there may be more memory then.
      (exit) => (Exit.isSuccess(exit) ? Duration.infinity : Duration.zero)
    )
  const chunks = HeadLoss.chunksFor(microTokens, checkpoint.config.vocabSize)
  const compiled = Effect.fnUntraced(function* (program: typeof LearnProgram.accumulate) {
    const of = (shares: boolean) =>
      compile(() => program(checkpoint, trained, objective, { chunks, shares, recompute, temperature }))
    return { shared: yield* of(true), apart: yield* of(false) }
  })
  const accumulate = yield* compiled(LearnProgram.accumulate)
  const measure = yield* compiled(LearnProgram.measure)
  const { layout } = trained

  const feedsOf = ({ feeds, tokens }: MicroBatch): Session.Feeds => {
    const count = feeds["targets"]?.dims[0]
    return {
      ...tokens(),
      ...feeds,
      ...(count === undefined || chunks === 1 ? {} : { chunks: Session.int64(HeadLoss.sizes(count, chunks), [chunks]) })
    }
  }
  /** The program of one of two that is for what is fed: layouts that share nothing have a cheaper one. */
  const programOf = <A>(programs: { readonly shared: A; readonly apart: A }, feeds: Session.Feeds): A =>
    Layout.shares(feeds) ? programs.shared : programs.apart
  /** Sums over micro-batches with those of one more. */
  const added = (sums: Measured, names: ReadonlyArray<string>, results: Record<string, Session.Tensor>): Measured => {
    const total = (name: string) => (sums[name] ?? 0) + Session.floats(results[`metric_${name}`]!)[0]!
    return { ...sums, ...Object.fromEntries(names.map((name) => [name, total(name)])) }
  }
  /** Adds the gradient of the micro-batches to `gradient`. */
  const learn = Effect.fnUntraced(function* (
    parameters: Float32Array,
    batch: ReadonlyArray<MicroBatch>,
    gradient: Float32Array
  ) {
    const fed = {
      ...Trainables.tensors(layout, parameters, LearnProgram.vectors.parameters),
      ...Trainables.tensors(layout, gradient, LearnProgram.vectors.gradient)
    }
    // The sums are written where they are read.
    const into = Trainables.tensors(layout, gradient, LearnProgram.vectors.sum)
    let sums: Measured = { loss: 0 }
    for (const micro of batch) {
      const feeds = feedsOf(micro)
      const { metrics, session } = yield* programOf(accumulate, feeds)
      const fetched = { ...into, ...Object.fromEntries(metrics.map((name) => [`metric_${name}`, null])) }
      sums = added(sums, metrics, yield* session.run({ ...feeds, ...fed }, fetched))
    }
    return sums
  })

  // A vector that was used is cleared and used again: the system gives out new memory slowly.
  let spare: Float32Array | undefined

  return {
    step: Effect.fnUntraced(function* (state, batch, rates) {
      const gradient = spare?.fill(0) ?? new Float32Array(layout.size)
      spare = undefined
      const measured = yield* learn(state.parameters, batch, gradient)
      const norm = Number.isFinite(measured.loss) ? update(layout, state, gradient, rates) : Number.NaN
      spare = gradient
      return { ...measured, grad_norm: norm }
    }),
    measure: Effect.fnUntraced(function* (parameters, batch) {
      const fed = Trainables.tensors(layout, parameters, LearnProgram.vectors.parameters)
      let sums: Measured = { loss: 0 }
      for (const micro of batch) {
        const feeds = feedsOf(micro)
        const { metrics, session } = yield* programOf(measure, feeds)
        sums = added(sums, metrics, yield* session.run({ ...feeds, ...fed }))
      }
      return sums
    })
  }
})

/**
 * One step of AdamW with a clipped gradient, in place: the gradient's norm before clipping, or NaN where nothing was
 * changed, because the gradient is not finite or the rates are too large for what would come of it.
 */
const update = (layout: Trainables.Layout, state: State, gradient: Float32Array, rates: Rates): number => {
  let end = 0
  const ranges = layout.groups.map(({ size }, group): Optimizer.Range => {
    const start = end
    end += size
    return { start, end, learningRate: rates.learningRates[group]!, weightDecay: rates.weightDecays[group]! }
  })
  const norm = Optimizer.norm(gradient)
  if (!Number.isFinite(norm)) return Number.NaN
  if (!ranges.every((range) => Optimizer.isBounded(state.parameters, range))) return Number.NaN
  const clip = Optimizer.clipFactor(norm, rates.maxGradNorm)
  for (const range of ranges) Optimizer.adamw(Optimizer.defaults, state, gradient, clip, state.step + 1, range)
  state.step += 1
  return norm
}
