/**
 * Optimizer: AdamW, clipping and schedules as pure functions.
 *
 * A step goes once through the vectors of all trainable parameters [P], in place. It is not a graph: each of its dozen
 * operators would read and write them all, and results would be copied.
 */

/** Hyper-parameters that stay the same. */
export interface AdamW {
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
}

/** The field's defaults for language models. */
export const defaults: AdamW = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 }

/** What a step changes, each [P]. */
export interface Vectors {
  parameters: Float32Array
  /** First moment. */
  m: Float32Array
  /** Second moment. */
  v: Float32Array
}

/** A range of the vectors with its rates. */
export interface Range {
  readonly start: number
  readonly end: number
  readonly learningRate: number
  /** Decoupled decay. */
  readonly weightDecay: number
}

/**
 * The step `t` (from 1) of AdamW (Loshchilov & Hutter 2019, algorithm 2) with a gradient g that is multiplied by `clip`,
 * in place: m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ − η (λθ + m̂ / (sqrt(v̂) + ε)). Computed in double precision.
 */
export const adamw = (
  { beta1, beta2, epsilon }: AdamW,
  { m, parameters, v }: Vectors,
  gradient: Float32Array,
  clip: number,
  t: number,
  { end, learningRate, start, weightDecay }: Range
): void => {
  const correction1 = 1 / (1 - beta1 ** t)
  const correction2 = 1 / Math.sqrt(1 - beta2 ** t)
  for (let i = start; i < end; i++) {
    const g = gradient[i]! * clip
    const x = parameters[i]!
    const first = beta1 * m[i]! + (1 - beta1) * g
    const second = beta2 * v[i]! + (1 - beta2) * g * g
    m[i] = first
    v[i] = second
    const direction = (first * correction1) / (Math.sqrt(second) * correction2 + epsilon)
    parameters[i] = x - learningRate * (weightDecay * x + direction)
  }
}

const largestFloat = (2 - 2 ** -23) * 2 ** 127

/**
 * Whether a step can make no parameter of a range infinite. The direction of AdamW is no longer than
 * (1−β₁) / sqrt((1−β₂)(1−β₁²/β₂)) times the ratio of the corrections (by Cauchy and Schwarz), which is at most that of
 * the first step: below 2.7 with the defaults, and 3 is allowed for.
 */
export const isBounded = (parameters: Float32Array, { end, learningRate, start, weightDecay }: Range): boolean => {
  let largest = 0
  for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(parameters[i]!))
  return largest * (1 + learningRate * weightDecay) + 3 * learningRate <= largestFloat
}

/** The Euclidean norm of a gradient. */
export const norm = (gradient: Float32Array): number => {
  let sum = 0
  for (let i = 0; i < gradient.length; i++) sum += gradient[i]! * gradient[i]!
  return Math.sqrt(sum)
}

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
