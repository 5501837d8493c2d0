/**
 * AdamW: one optimizer step over flat vectors, in place.
 *
 * The vectors are gone through in pieces: what lies between two operators stays in the cache, and of vectors that are
 * gigabytes for a model that is trained as a whole no second copy is made.
 */
import { Effect } from "effect"
import type { Scope } from "effect"
import * as Graph from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Optimizer from "../onnx/Optimizer.ts"
import * as Session from "../onnx/Session.ts"
import type { Layout } from "./Trainables.ts"

/** Parameters, moments and the number of steps done: all that a resumed training needs of the optimizer. */
export interface State {
  parameters: Float32Array
  m: Float32Array
  v: Float32Array
  step: number
}

/** Rates of one optimizer step, one number for each group of the layout. */
export interface Rates {
  readonly learningRates: ReadonlyArray<number>
  readonly weightDecays: ReadonlyArray<number>
  readonly maxGradNorm: number
}

/**
 * One step with a gradient that is clipped to the norm of the rates, in place on the state: the norm before clipping.
 * It is NaN, and the state as it was, where the gradient or what would come of it is not finite.
 */
export type AdamW = (state: State, gradient: Float32Array, rates: Rates) => Effect.Effect<number, Session.SessionError>

/** Numbers of a piece at most. */
const most = 2 ** 18

/** What a step changes. */
const vectors = ["parameters", "m", "v"] as const

/** A range of the vectors, within a group. */
interface Piece {
  readonly start: number
  readonly end: number
  readonly group: number
}

const piecesOf = ({ groups }: Layout): ReadonlyArray<Piece> => {
  const pieces: Array<Piece> = []
  let offset = 0
  for (const [group, { size }] of groups.entries()) {
    for (let at = 0; at < size; at += most) {
      pieces.push({ start: offset + at, end: offset + Math.min(size, at + most), group })
    }
    offset += size
  }
  return pieces
}

/** The sum of the squares of a gradient's piece. */
const squares = (): Graph.Graph => {
  const graph = Graph.make("squares of the gradient")
  const gradient = Graph.input(graph, "gradient", "float32", ["P"])
  Graph.output(graph, "sum", Op.sumAll(Op.mul(gradient, gradient)))
  return graph
}

/** What a step makes of a piece; with `check` only whether all of its parameters are finite: 0, or else NaN. */
const update = (check: boolean): Graph.Graph => {
  const graph = Graph.make(check ? "check gradient" : "apply gradient")
  const vector = (name: string) => Graph.input(graph, name, "float32", ["P"])
  const scalar = (name: string) => Graph.input(graph, name, "float32", [])
  const { m, parameters, v } = Optimizer.adamw(Optimizer.defaults, {
    parameters: vector("parameters"),
    gradient: Op.mul(vector("gradient"), scalar("clip")),
    m: vector("m"),
    v: vector("v"),
    learningRate: scalar("learning_rate"),
    weightDecay: scalar("weight_decay"),
    correction1: scalar("correction1"),
    correction2: scalar("correction2")
  })
  // x − x is 0 of a finite x alone.
  const results = check ? { finite: Op.sumAll(Op.sub(parameters, parameters)) } : { parameters, m, v }
  for (const [name, value] of Object.entries(results)) Graph.output(graph, `next ${name}`, value)
  return graph
}

/** Compiles a step for vectors of a layout; on the processor, where they lie. */
export const make = Effect.fnUntraced(function* (
  layout: Layout
): Effect.fn.Return<AdamW, Session.SessionError, Scope.Scope> {
  const pieces = piecesOf(layout)
  const norm = yield* Session.make(squares())
  const check = yield* Session.make(update(true))
  const apply = yield* Session.make(update(false))

  return Effect.fnUntraced(function* (state, gradient, rates) {
    const part = (vector: Float32Array, { end, start }: Piece) =>
      Session.float32(vector.subarray(start, end), [end - start])
    let sum = 0
    for (const piece of pieces) {
      const results = yield* norm.run({ gradient: part(gradient, piece) })
      sum += Session.floats(results["sum"]!)[0]!
    }
    const length = Math.sqrt(sum)
    if (!Number.isFinite(length)) return Number.NaN

    const { correction1, correction2 } = Optimizer.corrections(Optimizer.defaults, state.step + 1)
    const clip = Optimizer.clipFactor(length, rates.maxGradNorm)
    const feeds = (piece: Piece) => ({
      gradient: part(gradient, piece),
      parameters: part(state.parameters, piece),
      m: part(state.m, piece),
      v: part(state.v, piece),
      clip: Session.scalar(clip),
      learning_rate: Session.scalar(rates.learningRates[piece.group]!),
      weight_decay: Session.scalar(rates.weightDecays[piece.group]!),
      correction1: Session.scalar(correction1),
      correction2: Session.scalar(correction2)
    })
    // The gradient may be finite and the rate too large for what comes of it.
    for (const piece of pieces) {
      const results = yield* check.run(feeds(piece))
      if (Session.floats(results["next finite"]!)[0] !== 0) return Number.NaN
    }
    const commit = Effect.forEach(
      pieces,
      (piece) =>
        Effect.map(apply.run(feeds(piece)), (results) => {
          for (const name of vectors) state[name].set(Session.floats(results[`next ${name}`]!), piece.start)
        }),
      { discard: true }
    )
    // Who gives up in the middle must not be left with half of a step.
    yield* Effect.uninterruptible(
      Effect.andThen(
        commit,
        Effect.sync(() => (state.step += 1))
      )
    )
    return length
  })
})
