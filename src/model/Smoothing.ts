/**
 * Smoothing: factors that make the input of linear maps easier to quantise.
 *
 * A few channels of activations are many times as large as the others (Dettmers et al. 2022), and the largest sets the
 * step of a token's 8-bit codes. With factors s a map is (x / s) (W diag(s))ᵀ, and part of that difference becomes one
 * of the weights, which have steps of their own (SmoothQuant, Xiao et al. 2022). Where x comes from a norm, the division
 * costs nothing: it is one of the norm's weight. Pure.
 */

/** Magnitudes below this share of the largest count as so much: nearly nothing passes there. */
const floor = 1e-5

/** How much of the difference between channels goes from the activations to the weights: α of the paper. */
const migration = 0.6

/**
 * The factors of maps that share their input: s_j = max |x_j|^α / max |w_j|^(1 − α), rounded to powers of two, so that
 * neither the division nor the product rounds anything.
 *
 * `activations` [in] are the largest magnitudes seen of each channel; `weights` are the maps, row-major [out, in] each.
 * Activations that are not finite, or all zero, say nothing.
 */
export const factors = (activations: Float32Array, weights: ReadonlyArray<Float32Array>): Float32Array => {
  const inputs = activations.length
  const largest = new Float32Array(inputs)
  for (const w of weights) {
    for (let i = 0; i < w.length; i += inputs) {
      for (let j = 0; j < inputs; j++) {
        const x = Math.abs(w[i + j]!)
        if (x > largest[j]!) largest[j] = x
      }
    }
  }
  const [x, w] = [bounded(activations), bounded(largest)]
  const exponent = (j: number) => migration * Math.log2(x(j)) - (1 - migration) * Math.log2(w(j))
  return Float32Array.from({ length: inputs }, (_, j) => 2 ** Math.round(exponent(j)))
}

/** w diag(factors), in place: w [out, in] row-major, factors [in]. */
export const apply = (w: Float32Array, factors: Float32Array): void => {
  const inputs = factors.length
  for (let i = 0; i < w.length; i += inputs) for (let j = 0; j < inputs; j++) w[i + j]! *= factors[j]!
}

/** Magnitudes by index, none too far below the largest; 1 where there is no largest. */
const bounded = (magnitudes: Float32Array): ((j: number) => number) => {
  const most = magnitudes.reduce((a, b) => Math.max(a, b), 0)
  return most > 0 && Number.isFinite(most) ? (j) => Math.max(magnitudes[j]!, floor * most) : () => 1
}
