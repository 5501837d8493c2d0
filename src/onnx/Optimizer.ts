/**
 * Optimizer: AdamW, clipping and schedules as pure functions.
 *
 * The graph functions take and return handles, so an update is compiled into the same graph as the gradients. They
 * work on one flat vector of all trainable parameters [P].
 */
import type { Value } from "./Graph.ts"
import * as Op from "./Op.ts"

/** Hyper-parameters that are compiled into the graph. */
export interface AdamW {
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
}

/** The field's defaults for language models. */
export const defaults: AdamW = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 }

/** Everything an update needs besides the hyper-parameters. */
export interface AdamWInputs {
  /** [P] */
  readonly parameters: Value
  /** [P] */
  readonly gradient: Value
  /** First moment [P]. */
  readonly m: Value
  /** Second moment [P]. */
  readonly v: Value
  /** A scalar, or [P] for a rate of its own for each parameter. */
  readonly learningRate: Value
  /** A scalar or [P]: decoupled decay. */
  readonly weightDecay: Value
  /** 1 / (1 − β₁ᵗ), a scalar. */
  readonly correction1: Value
  /** 1 / sqrt(1 − β₂ᵗ), a scalar. */
  readonly correction2: Value
}

/**
 * One AdamW step (Loshchilov & Hutter 2019, algorithm 2):
 * m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ − η (λθ + m̂ / (sqrt(v̂) + ε)).
 */
export const adamw = (options: AdamW, x: AdamWInputs): { parameters: Value; m: Value; v: Value } => {
  const m = Op.add(Op.scale(x.m, options.beta1), Op.scale(x.gradient, 1 - options.beta1))
  const v = Op.add(Op.scale(x.v, options.beta2), Op.scale(Op.mul(x.gradient, x.gradient), 1 - options.beta2))
  const denominator = Op.shift(Op.mul(Op.sqrt(v), x.correction2), options.epsilon)
  const direction = Op.div(Op.mul(m, x.correction1), denominator)
  const decayed = Op.add(direction, Op.mul(x.parameters, x.weightDecay))
  return { parameters: Op.sub(x.parameters, Op.mul(decayed, x.learningRate)), m, v }
}

/** The bias corrections of step `t` (from 1), computed in double precision outside the graph. */
export const corrections = (options: AdamW, t: number): { correction1: number; correction2: number } => ({
  correction1: 1 / (1 - options.beta1 ** t),
  correction2: 1 / Math.sqrt(1 - options.beta2 ** t)
})

/**
 * The factor that scales a gradient so that its Euclidean norm is at most `maxNorm` (torch's `clip_grad_norm_`):
 * min(1, maxNorm / (norm + 1e-6)).
 */
export const clipFactor = (norm: number, maxNorm: number): number => Math.min(1, maxNorm / (norm + 1e-6))

/** How a learning rate changes over a training. */
export interface Schedule {
  readonly kind: "constant" | "linear" | "cosine"
  /** Steps in all. */
  readonly steps: number
  /** Steps of linear warm-up, from 0. */
  readonly warmup: number
  /** The share of the peak that remains at the end. */
  readonly floor: number
}

/** The factor on the learning rate at a step (from 0): linear warm-up, then constant, linear or half a cosine. */
export const multiplier = (schedule: Schedule, step: number): number => {
  const { floor, kind, steps, warmup } = schedule
  if (step < warmup) return step / Math.max(1, warmup)
  if (kind === "constant") return 1
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup))
  const falling = kind === "linear" ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress))
  return floor + (1 - floor) * falling
}

/**
 * The factor of the `index`-th optimizer step (from 0) of `schedule.steps`. With a warm-up it is the schedule read one
 * step in, so that no step is spent at a rate of zero; without one the first step has the peak.
 */
export const stepMultiplier = (schedule: Schedule, index: number): number =>
  schedule.warmup === 0
    ? multiplier(schedule, index)
    : multiplier({ ...schedule, steps: schedule.steps + 1 }, index + 1)
