/**
 * Rope: rotary position embeddings and the ways to stretch them to longer contexts.
 *
 * A token at position p turns the pair of dimensions i and i + dims/2 of each query and key by the angle p·fᵢ
 * (Su et al. 2021, https://arxiv.org/abs/2104.09864). The kinds differ in the frequencies fᵢ and in a factor on the
 * rotated numbers. Roundings are those of transformers, which computes in float32: at position 100,000 they matter.
 */

interface Base {
  /** Base of the wavelengths. */
  readonly theta: number
  /** How many of a head's dimensions are rotated, from the first on; even. */
  readonly dims: number
}

/** fᵢ = theta^(−2i/dims). */
export interface Default extends Base {
  readonly kind: "default"
}

/** All frequencies divided by a factor: positions are squeezed together (https://arxiv.org/abs/2306.15595). */
export interface Linear extends Base {
  readonly kind: "linear"
  readonly factor: number
}

/** Long wavelengths are stretched, short ones kept, those between interpolated (Llama 3.1). */
export interface Llama3 extends Base {
  readonly kind: "llama3"
  readonly factor: number
  readonly lowFreqFactor: number
  readonly highFreqFactor: number
  /** The context before stretching. */
  readonly originalPositions: number
}

/** As `llama3` with a ramp over the dimensions and a factor on the result (YaRN, https://arxiv.org/abs/2309.00071). */
export interface Yarn extends Base {
  readonly kind: "yarn"
  readonly factor: number
  readonly attentionFactor: number
  /** Rotations within the original context above which a dimension is kept as it is. */
  readonly betaFast: number
  /** Rotations within the original context below which a dimension is stretched. */
  readonly betaSlow: number
  readonly originalPositions: number
  /** Whether the ends of the ramp are rounded to whole dimensions. */
  readonly truncate: boolean
}

/** A divisor for each frequency (LongRoPE, https://arxiv.org/abs/2402.13753); those for contexts up to the original one. */
export interface LongRope extends Base {
  readonly kind: "longrope"
  readonly shortFactors: ReadonlyArray<number>
  readonly attentionFactor: number
}

/** How positions enter queries and keys. */
export type Rope = Default | Linear | Llama3 | Yarn | LongRope

/** What the rotated numbers are multiplied with. */
export const attentionFactor = (rope: Rope): number => ("attentionFactor" in rope ? rope.attentionFactor : 1)

/** The angle in radians that each pair of dimensions turns from one position to the next, [dims / 2]. */
export const frequencies = (rope: Rope): Float32Array => {
  // theta^(2i/dims), of which each kind makes its frequencies.
  const wavelengths = Float32Array.from(
    { length: rope.dims / 2 },
    (_, i) => Math.fround(rope.theta) ** Math.fround((2 * i) / rope.dims)
  )
  const plain = wavelengths.map((w) => 1 / w)
  switch (rope.kind) {
    case "default":
      return plain
    case "linear":
      return plain.map((f) => f / rope.factor)
    case "llama3":
      return plain.map((f) => llama3(rope, f))
    case "yarn":
      return yarn(rope, wavelengths)
    case "longrope":
      return wavelengths.map((w, i) => 1 / Math.fround(Math.fround(rope.shortFactors[i]!) * w))
  }
}

const llama3 = (rope: Llama3, frequency: number): number => {
  const { factor, highFreqFactor, lowFreqFactor, originalPositions } = rope
  // Rotations within the original context.
  const rotations = originalPositions / ((2 * Math.PI) / frequency)
  if (rotations > highFreqFactor) return frequency
  if (rotations < lowFreqFactor) return frequency / factor
  const smooth = (rotations - lowFreqFactor) / (highFreqFactor - lowFreqFactor)
  return ((1 - smooth) * frequency) / factor + smooth * frequency
}

const yarn = (rope: Yarn, wavelengths: Float32Array): Float32Array => {
  const { betaFast, betaSlow, dims, factor, originalPositions, theta, truncate } = rope
  /** The dimension that turns so many times within the original context. */
  const dimension = (rotations: number): number =>
    (dims * Math.log(originalPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(theta))
  const [fast, slow] = [dimension(betaFast), dimension(betaSlow)]
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0)
  const high = Math.min(truncate ? Math.ceil(slow) : slow, dims - 1)
  const width = low === high ? 0.001 : high - low
  return wavelengths.map((w, i) => {
    const kept = 1 - Math.min(Math.max((i - low) / width, 0), 1)
    return (1 / Math.fround(factor * w)) * (1 - kept) + (1 / w) * kept
  })
}

/** Cosines and sines of positions 0, 1, …, times the attention factor, [positions, dims / 2] each. */
export const tables = (rope: Rope, positions: number): { cos: Float32Array; sin: Float32Array } => {
  const turns = frequencies(rope)
  const factor = attentionFactor(rope)
  const cos = new Float32Array(positions * turns.length)
  const sin = new Float32Array(positions * turns.length)
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < turns.length; i++) {
      const angle = Math.fround(p * turns[i]!)
      cos[p * turns.length + i] = Math.cos(angle) * factor
      sin[p * turns.length + i] = Math.sin(angle) * factor
    }
  }
  return { cos, sin }
}
