/**
 * Learner: trains a flat vector of parameters by an objective over a frozen or fully trained network.
 *
 * It knows rows of token ids, not text, and batches, not data sets: what comes in which order is the caller's affair
 * (`engine/Training.ts`).
 */
import { Effect, Scope } from "effect"
import type { Checkpoint } from "../model/Checkpoint.ts"
import * as Optimizer from "../onnx/Optimizer.ts"
import * as Session from "../onnx/Session.ts"
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

/** One padded batch with the feeds that the objective asks for. */
export interface MicroBatch {
  readonly rows: ReadonlyArray<ReadonlyArray<number>>
  /** By input name, besides the rows: `at`, `targets`, `weights`, ... */
  readonly feeds: Session.Feeds
}

/** Rates of one optimizer step, one number for each group of the layout. */
export interface Rates {
  readonly learningRates: ReadonlyArray<number>
  readonly weightDecays: ReadonlyArray<number>
  readonly maxGradNorm: number
}

/** Loss, the objective's metrics and the gradient's norm before clipping. */
export type Metrics = Readonly<Record<string, number>> & { readonly loss: number; readonly grad_norm: number }

/** A compiled training. */
export interface Learner {
  /** One optimizer step over the micro-batches, in place on `state`. A step with a non-finite gradient changes nothing. */
  readonly step: (
    state: State,
    batch: ReadonlyArray<MicroBatch>,
    rates: Rates
  ) => Effect.Effect<Metrics, Session.SessionError>
}

/** Compiles an objective over a checkpoint. Graphs are compiled when first needed and released with the scope. */
export const make = Effect.fnUntraced(function* (
  checkpoint: Checkpoint,
  trained: LearnProgram.Trained,
  objective: Objective
): Effect.fn.Return<Learner, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const compile = (build: () => LearnProgram.LearnGraph) =>
    Effect.cached(
      Effect.suspend(() => {
        const built = build()
        return Effect.map(
          Effect.provideService(Session.make(built.graph, { folder: Program.weightsFolder }), Scope.Scope, scope),
          (session) => ({ session, metrics: built.metrics })
        )
      })
    )
  const whole = yield* compile(() => LearnProgram.step(checkpoint, trained, objective))
  const accumulate = yield* compile(() => LearnProgram.accumulate(checkpoint, trained, objective))
  const apply = yield* compile(() => ({ graph: LearnProgram.apply(trained), metrics: [] }))
  const size = trained.layout.size

  const optimizer = (state: State, rates: Rates): Session.Feeds => {
    const corrections = Optimizer.corrections(Optimizer.defaults, state.step + 1)
    const groups = (xs: ReadonlyArray<number>) => Session.float32(Float32Array.from(xs), [xs.length])
    return {
      parameters: Session.float32(state.parameters, [size]),
      m: Session.float32(state.m, [size]),
      v: Session.float32(state.v, [size]),
      learning_rates: groups(rates.learningRates),
      weight_decays: groups(rates.weightDecays),
      max_grad_norm: Session.scalar(rates.maxGradNorm),
      correction1: Session.scalar(corrections.correction1),
      correction2: Session.scalar(corrections.correction2)
    }
  }
  const advance = (state: State, results: Record<string, Session.Tensor>): number => {
    const norm = Session.floats(results["grad_norm"]!)[0]!
    if (Number.isFinite(norm)) {
      state.parameters = Session.floats(results["parameters_out"]!)
      state.m = Session.floats(results["m_out"]!)
      state.v = Session.floats(results["v_out"]!)
      state.step += 1
    }
    return norm
  }
  const read = (names: ReadonlyArray<string>, results: Record<string, Session.Tensor>): Record<string, number> =>
    Object.fromEntries(names.map((name) => [name, Session.floats(results[`metric_${name}`]!)[0]!]))

  return {
    step: Effect.fnUntraced(function* (state, batch, rates) {
      if (batch.length === 1) {
        const { metrics, session } = yield* whole
        const { feeds, rows } = batch[0]!
        const results = yield* session.run({ ...Program.tokenFeeds(rows), ...feeds, ...optimizer(state, rates) })
        return { ...read(metrics, results), grad_norm: advance(state, results) } as unknown as Metrics
      }
      const { metrics, session } = yield* accumulate
      let gradient = new Float32Array(size)
      const sums: Record<string, number> = {}
      for (const { feeds, rows } of batch) {
        const results = yield* session.run({
          ...Program.tokenFeeds(rows),
          ...feeds,
          parameters: Session.float32(state.parameters, [size]),
          gradient: Session.float32(gradient, [size])
        })
        gradient = Session.floats(results["gradient_out"]!) as Float32Array<ArrayBuffer>
        for (const [name, x] of Object.entries(read(metrics, results))) sums[name] = (sums[name] ?? 0) + x
      }
      const results = yield* (yield* apply).session.run({
        ...optimizer(state, rates),
        gradient: Session.float32(gradient, [size])
      })
      return { ...sums, grad_norm: advance(state, results) } as unknown as Metrics
    })
  }
})
