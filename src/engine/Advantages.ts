/** Advantages: how much better each token did than expected. Pure functions over rows of numbers. */

/**
 * Generalised advantage estimation over one answer's tokens (Schulman et al. 2016, eq. 16):
 * δₜ = rₜ + γ Vₜ₊₁ − Vₜ, Aₜ = δₜ + γλ Aₜ₊₁, with V = 0 after the last token; returns are A + V.
 *
 * `rewards` and `values` have one number for each token, [T].
 */
export const gae = (
  rewards: ArrayLike<number>,
  values: ArrayLike<number>,
  gamma: number,
  lambda: number
): { readonly advantages: Float64Array; readonly returns: Float64Array } => {
  const length = rewards.length
  const advantages = new Float64Array(length)
  const returns = new Float64Array(length)
  let next = 0
  for (let t = length - 1; t >= 0; t--) {
    const after = t + 1 < length ? values[t + 1]! : 0
    next = rewards[t]! + gamma * after - values[t]! + gamma * lambda * next
    advantages[t] = next
    returns[t] = next + values[t]!
  }
  return { advantages, returns }
}

/** Advantages of mean 0 and standard deviation 1 over the whole batch (ε = 1e-8), and the deviation they had. */
export const whiten = (
  rows: ReadonlyArray<ArrayLike<number>>
): { readonly rows: ReadonlyArray<Float64Array>; readonly std: number } => {
  let [count, sum] = [0, 0]
  for (const row of rows) for (let t = 0; t < row.length; t++) [count, sum] = [count + 1, sum + row[t]!]
  const mean = sum / Math.max(1, count)
  let squares = 0
  for (const row of rows) for (let t = 0; t < row.length; t++) squares += (row[t]! - mean) ** 2
  const std = Math.sqrt(squares / Math.max(1, count - 1))
  return { rows: rows.map((row) => Float64Array.from(row, (x) => (x - mean) / (std + 1e-8))), std }
}

/**
 * Rewards of each token of an answer: −β (log π − log π_ref) everywhere, and the answer's reward on its last token
 * (Ziegler et al. 2019, section 2).
 */
export const shapedRewards = (
  logprobs: ArrayLike<number>,
  reference: ArrayLike<number>,
  reward: number,
  beta: number
): Float64Array => {
  const rewards = Float64Array.from(logprobs, (x, t) => -beta * (x - reference[t]!))
  rewards[rewards.length - 1]! += reward
  return rewards
}

/** ε in the group advantage's denominator, as in TRL. */
const groupEpsilon = 1e-4

/** Rewards in groups of `size`, one group after the other; throws where they do not divide. */
const grouped = (rewards: ArrayLike<number>, size: number): ReadonlyArray<ReadonlyArray<number>> => {
  if (rewards.length % size !== 0) throw new Error(`${rewards.length} rewards are no groups of ${size}`)
  return Array.from({ length: rewards.length / size }, (_, g) =>
    Array.from({ length: size }, (_, i) => rewards[g * size + i]!)
  )
}

/**
 * Advantages relative to the answers to the same prompt (Shao et al. 2024, section 4.1.2): (r − mean) / (std + 1e-4)
 * with the unbiased std (n − 1), over `size` rewards at a time. Without `scale`, r − mean (Liu et al. 2025).
 */
export const group = (rewards: ArrayLike<number>, size: number, scale = true): Float64Array =>
  Float64Array.from(
    grouped(rewards, size).flatMap((of) => {
      const mean = of.reduce((a, b) => a + b, 0) / size
      const std = Math.sqrt(of.reduce((sum, r) => sum + (r - mean) ** 2, 0) / Math.max(1, size - 1))
      return of.map((r) => (scale ? (r - mean) / (std + groupEpsilon) : r - mean))
    })
  )

/** Advantages against the mean of the others of the group (Kool et al. 2019; Ahmadian et al. 2024, eq. 8). */
export const leaveOneOut = (rewards: ArrayLike<number>, size: number): Float64Array => {
  if (size < 2) throw new Error("leave-one-out needs groups of two or more")
  return Float64Array.from(
    grouped(rewards, size).flatMap((of) => {
      const sum = of.reduce((a, b) => a + b, 0)
      return of.map((r) => r - (sum - r) / (size - 1))
    })
  )
}
