/**
 * Sampling: from the logits of one position to one token, as a pure function of a uniform number.
 *
 * The steps and their order are those of transformers, which vLLM shares up to the place of `minP`:
 *
 * 1. `logitBias` is added;
 * 2. `repetitionPenalty` r: the logit x of a token that occurred before becomes x / r where x > 0, else x · r
 *    (Keskar et al. 2019, section 4.1);
 * 3. `temperature` T divides the logits; 0, and what is too small to divide by, is greedy: the largest wins and nothing
 *    below applies;
 * 4. `topK` keeps the k likeliest tokens (Fan et al. 2018);
 * 5. `topP` keeps the fewest of the likeliest tokens left whose probabilities, renormalised over what is left, reach p
 *    (Holtzman et al. 2020);
 * 6. `minP` keeps tokens of at least m times the likeliest one's probability (Nguyen et al. 2024);
 * 7. the token is drawn from what is left, renormalised, by inverting its cumulative distribution in the order of ids.
 *
 * Where tokens are equally likely, the one with the smaller id counts as the likelier.
 */

/** How a token is drawn. What is left out does nothing. */
export interface Options {
  /** 0 is greedy. */
  readonly temperature: number
  /** At least 1. */
  readonly topK?: number | undefined
  /** In (0, 1]. */
  readonly topP?: number | undefined
  /** In [0, 1]. */
  readonly minP?: number | undefined
  /** Above 0; 1 does nothing, more makes repetition rarer. */
  readonly repetitionPenalty?: number | undefined
  /** Added to the logits, by token id. */
  readonly logitBias?: ReadonlyMap<number, number> | undefined
}

/** A drawn token with its log-probabilities in nats. */
export interface Draw {
  readonly token: number
  /** Under the model itself, at temperature 1: log softmax(logits). */
  readonly logprob: number
  /** Under the distribution that it was drawn from; 0 for a greedy token. */
  readonly samplingLogprob: number
}

/** Below this, logits divided by the temperature would leave the range of float32 sooner than anything but the largest is drawn. */
const coldest = 1e-6

/** Whether the likeliest token is taken. */
export const isGreedy = ({ temperature }: Pick<Options, "temperature">): boolean => temperature < coldest

/** Whether a temperature is all there is, so that no single logit has to be looked at outside of the graph. */
export const isPlain = (options: Options): boolean => {
  const { logitBias, minP, repetitionPenalty, topK, topP } = options
  if (repetitionPenalty !== undefined && repetitionPenalty !== 1) return false
  if (logitBias !== undefined && logitBias.size > 0) return false
  if (isGreedy(options)) return true
  return topK === undefined && (topP === undefined || topP >= 1) && (minP === undefined || minP <= 0)
}

/** What is wrong with options, as the end of a sentence; undefined when nothing is. */
export const problem = (options: Options, vocabSize: number): string | undefined => {
  const { logitBias, minP, repetitionPenalty, temperature, topK, topP } = options
  if (!(temperature >= 0 && Number.isFinite(temperature))) return `temperature ${temperature} is not 0 or more`
  if (topK !== undefined && !(Number.isInteger(topK) && topK >= 1)) return `top_k ${topK} is not a whole number above 0`
  if (topP !== undefined && !(topP > 0 && topP <= 1)) return `top_p ${topP} is not above 0 and at most 1`
  if (minP !== undefined && !(minP >= 0 && minP <= 1)) return `min_p ${minP} is not between 0 and 1`
  if (repetitionPenalty !== undefined && !(repetitionPenalty > 0 && Number.isFinite(repetitionPenalty))) {
    return `repetition_penalty ${repetitionPenalty} is not above 0`
  }
  let banned = 0
  for (const [id, bias] of logitBias ?? []) {
    if (!(Number.isInteger(id) && id >= 0 && id < vocabSize)) return `logit_bias names the token ${id}, which is none`
    if (Number.isNaN(bias) || bias === Infinity) return `logit_bias of the token ${id} is ${bias}`
    if (bias === -Infinity) banned++
  }
  if (banned === vocabSize) return "logit_bias leaves no token"
  return undefined
}

/**
 * Draws a token from `logits` [V] with `uniform` in [0, 1). `seen` holds the ids of the prompt and of the continuation
 * so far, which the repetition penalty needs; `normalizer` is log Σ exp(logits), where the caller has it already.
 */
export const draw = (
  logits: Float32Array,
  options: Options,
  uniform: number,
  seen: Iterable<number> = [],
  normalizer: number = logSumExp(logits)
): Draw => {
  const x = adjusted(logits, options, seen)
  const unchanged = x === logits && options.temperature === 1
  const drawn = isGreedy(options)
    ? { token: argmax(x), samplingLogprob: 0 }
    : pick(x, survivors(x, options, unchanged ? normalizer : undefined), options.temperature, uniform)
  return { ...drawn, logprob: logits[drawn.token]! - normalizer }
}

/** The logits after bias and penalty; the given ones where there is neither. */
const adjusted = (logits: Float32Array, options: Options, seen: Iterable<number>): Float32Array => {
  const { logitBias, repetitionPenalty = 1 } = options
  if (repetitionPenalty === 1 && (logitBias === undefined || logitBias.size === 0)) return logits
  const x = logits.slice()
  for (const [id, bias] of logitBias ?? []) x[id]! += bias
  if (repetitionPenalty === 1) return x
  for (const id of new Set(seen)) x[id] = x[id]! > 0 ? x[id]! / repetitionPenalty : x[id]! * repetitionPenalty
  return x
}

const argmax = (x: Float32Array): number => {
  let best = 0
  for (let i = 1; i < x.length; i++) if (x[i]! > x[best]!) best = i
  return best
}

/** log Σ exp(x / T), in double precision. */
const logSumExp = (x: Float32Array, temperature = 1): number => {
  const most = x[argmax(x)]!
  let sum = 0
  for (let i = 0; i < x.length; i++) sum += Math.exp((x[i]! - most) / temperature)
  return most / temperature + Math.log(sum)
}

/** The ids of x from `bound` on, the likeliest first. */
const above = (x: Float32Array, bound: number): Array<number> => {
  const ids: Array<number> = []
  for (let i = 0; i < x.length; i++) if (x[i]! >= bound) ids.push(i)
  return ids.sort((a, b) => x[b]! - x[a]! || a - b)
}

/** The ids that the filters keep, in ascending order; undefined when they keep all. */
const survivors = (
  x: Float32Array,
  { minP = 0, temperature, topK = x.length, topP = 1 }: Options,
  normalizer: number | undefined
): ReadonlyArray<number> | undefined => {
  if (topK >= x.length && topP >= 1 && minP <= 0) return undefined
  const most = x[argmax(x)]!
  const weight = (id: number) => Math.exp((x[id]! - most) / temperature)
  const sumOf = (ids: ReadonlyArray<number>) => ids.reduce((sum, id) => sum + weight(id), 0)
  // minP · p(likeliest) ≤ p  ⇔  T log minP ≤ x − most
  const bound = minP <= 0 ? Number.NEGATIVE_INFINITY : most + temperature * Math.log(minP)
  let kept: Array<number>
  if (topK < x.length) {
    kept = above(x, kthLargest(x, topK)).slice(0, topK)
    if (topP < 1) kept = reach(kept, topP * sumOf(kept), weight)
  } else if (topP < 1) {
    const target = topP * Math.exp((normalizer ?? logSumExp(x, temperature)) - most / temperature)
    // Only tokens that may belong to the nucleus are sorted, which are few.
    let width = 4
    do {
      kept = above(x, most - width * temperature)
      width *= 2
    } while (kept.length < x.length && width < 1e4 && sumOf(kept) < target)
    kept = reach(kept, target, weight)
  } else {
    kept = above(x, bound)
  }
  return kept.filter((id) => x[id]! >= bound).sort((a, b) => a - b)
}

/** The first of `ids`, sorted by falling weight, whose weights together reach the target. */
const reach = (ids: Array<number>, target: number, weight: (id: number) => number): Array<number> => {
  let sum = 0
  for (let i = 0; i < ids.length; i++) {
    sum += weight(ids[i]!)
    if (sum >= target) return ids.slice(0, i + 1)
  }
  return ids
}

/** The k-th largest of x, by a heap of the k largest so far whose root is the smallest of them. */
const kthLargest = (x: Float32Array, k: number): number => {
  const heap = x.slice(0, k).sort()
  for (let i = k; i < x.length; i++) {
    const value = x[i]!
    if (!(value > heap[0]!)) continue
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= k) break
      if (child + 1 < k && heap[child + 1]! < heap[child]!) child++
      if (heap[child]! >= value) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = value
  }
  return heap[0]!
}

/** Draws from softmax(x / T) over the ids (all of them if undefined), in ascending order. */
const pick = (
  x: Float32Array,
  ids: ReadonlyArray<number> | undefined,
  temperature: number,
  uniform: number
): Pick<Draw, "token" | "samplingLogprob"> => {
  const count = ids === undefined ? x.length : ids.length
  const idAt = (i: number) => (ids === undefined ? i : ids[i]!)
  let most = Number.NEGATIVE_INFINITY
  for (let i = 0; i < count; i++) most = Math.max(most, x[idAt(i)]!)
  const cumulative = new Float64Array(count)
  let total = 0
  for (let i = 0; i < count; i++) cumulative[i] = total += Math.exp((x[idAt(i)]! - most) / temperature)
  // Bisection for the first whose running sum is above the target.
  let low = 0
  let high = count - 1
  while (low < high) {
    const middle = (low + high) >>> 1
    if (cumulative[middle]! > uniform * total) high = middle
    else low = middle + 1
  }
  const token = idAt(low)
  return { token, samplingLogprob: (x[token]! - most) / temperature - Math.log(total) }
}
