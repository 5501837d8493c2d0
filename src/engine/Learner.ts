/**
 * Learner: trains a flat vector of parameters by an objective over a frozen or fully trained network.
 *
 * It knows rows of token ids, not text, and batches, not data sets: what comes in which order is the caller's affair
 * (`engine/Training.ts`).
 */
import { Effect, Scope } from "effect"
import * as Optimizer from "../onnx/Optimizer.ts"
import * as Session from "../onnx/Session.ts"
import type { Base } from "./Base.ts"
import * as HeadLoss from "./HeadLoss.ts"
import * as LearnProgram from "./LearnProgram.ts"
import type { Objective } from "./Objective.ts"
import * as Program from "./Program.ts"

/** Parameters, moments and the number of steps done: all that a resumed training needs of the optimizer. */
export interface State {
  parameters: Float32Array
  m: Float32Array
  v: Float32Array
  step: number
}

/** A fresh state of the given parameters. */
export const initialState = (parameters: Float32Array): State => ({
  parameters,
  m: new Float32Array(parameters.length),
  v: new Float32Array(parameters.length),
  step: 0
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
  const compile = (build: () => LearnProgram.LearnGraph, on: Session.Device = device) =>
    Effect.cached(
      Effect.suspend(() => {
        const built = build()
        const made = Session.make(built.graph, { ...options, device: on })
        return Effect.map(Effect.provideService(made, Scope.Scope, scope), (session) => ({
          session,
          metrics: built.metrics
        }))
      })
    )
  const chunks = HeadLoss.chunksFor(microTokens, checkpoint.config.vocabSize)
  const shape = { chunks, recompute, temperature }
  const accumulate = yield* compile(() => LearnProgram.accumulate(checkpoint, trained, objective, shape))
  const measure = yield* compile(() => LearnProgram.measure(checkpoint, trained, objective, shape))
  // Parameters and moments would cross the bus both ways for a handful of passes over them.
  const apply = yield* compile(() => ({ graph: LearnProgram.apply(trained), metrics: [] }), "cpu")
  const size = trained.layout.size
  const vector = (data: Float32Array) => Session.float32(data, [size])

  const feedsOf = ({ feeds, tokens }: MicroBatch): Session.Feeds => {
    const count = feeds["targets"]?.dims[0]
    return {
      ...tokens(),
      ...feeds,
      ...(count === undefined || shape.chunks === 1
        ? {}
        : { chunks: Session.int64(HeadLoss.sizes(count, shape.chunks), [shape.chunks]) })
    }
  }
  const optimizer = (state: State, rates: Rates): Session.Feeds => {
    const corrections = Optimizer.corrections(Optimizer.defaults, state.step + 1)
    const groups = (xs: ReadonlyArray<number>) => Session.float32(Float32Array.from(xs), [xs.length])
    return {
      parameters: vector(state.parameters),
      m: vector(state.m),
      v: vector(state.v),
      learning_rates: groups(rates.learningRates),
      weight_decays: groups(rates.weightDecays),
      max_grad_norm: Session.scalar(rates.maxGradNorm),
      correction1: Session.scalar(corrections.correction1),
      correction2: Session.scalar(corrections.correction2)
    }
  }
  /** Takes over what a step made, unless something of it is not finite; the norm of the gradient, or NaN. */
  const advance = (state: State, results: Record<string, Session.Tensor>): number => {
    const norm = Session.floats(results["grad_norm"]!)[0]!
    const parameters = Session.floats(results["parameters_out"]!)
    // The gradient may be finite and the rate too large for what comes of it.
    if (!Number.isFinite(norm) || !allFinite(parameters)) return Number.NaN
    state.parameters = parameters
    state.m = Session.floats(results["m_out"]!)
    state.v = Session.floats(results["v_out"]!)
    state.step += 1
    return norm
  }
  /** Sums over micro-batches with those of one more. */
  const added = (sums: Measured, names: ReadonlyArray<string>, results: Record<string, Session.Tensor>): Measured => {
    const total = (name: string) => (sums[name] ?? 0) + Session.floats(results[`metric_${name}`]!)[0]!
    return { ...sums, ...Object.fromEntries(names.map((name) => [name, total(name)])) }
  }

  return {
    step: Effect.fnUntraced(function* (state, batch, rates) {
      const { metrics, session } = yield* accumulate
      let gradient = new Float32Array(size)
      let sums: Measured = { loss: 0 }
      for (const micro of batch) {
        const results = yield* session.run({
          ...feedsOf(micro),
          parameters: vector(state.parameters),
          gradient: vector(gradient)
        })
        gradient = Session.floats(results["gradient_out"]!) as Float32Array<ArrayBuffer>
        sums = added(sums, metrics, results)
      }
      if (!Number.isFinite(sums.loss)) return { ...sums, grad_norm: Number.NaN }
      const results = yield* (yield* apply).session.run({ ...optimizer(state, rates), gradient: vector(gradient) })
      return { ...sums, grad_norm: advance(state, results) }
    }),
    measure: Effect.fnUntraced(function* (parameters, batch) {
      const { metrics, session } = yield* measure
      let sums: Measured = { loss: 0 }
      for (const micro of batch) {
        sums = added(sums, metrics, yield* session.run({ ...feedsOf(micro), parameters: vector(parameters) }))
      }
      return sums
    })
  }
})

/** Whether no number is infinite or NaN: x − x is 0 of a finite x alone. */
const allFinite = (numbers: Float32Array): boolean => {
  let sum = 0
  for (let i = 0; i < numbers.length; i++) sum += numbers[i]! - numbers[i]!
  return sum === 0
}
