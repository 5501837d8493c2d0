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
 * so far, which the repetition penalty needs. `known` are sums that the caller has already: `normalizer`, log Σ exp(x),
 * and `tempered`, log Σ exp(x / T), where the logits are taken as they are.
 */
export const draw = (
  logits: Float32Array,
  options: Options,
  uniform: number,
  seen: Iterable<number> = [],
  known: { readonly normalizer?: number; readonly tempered?: number } = {}
): Draw => {
  const { temperature } = options
  const { normalizer = logSumExp(logits) } = known
  const x = adjusted(logits, options, seen)
  const tempered = x !== logits ? undefined : temperature === 1 ? normalizer : known.tempered
  const drawn = isGreedy(options)
    ? { token: argmax(x), samplingLogprob: 0 }
    : pick(x, survivors(x, options, tempered), temperature, uniform)
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
  let most = Number.NEGATIVE_INFINITY
  for (let i = 0; i < x.length; i++) {
    if (x[i]! > most) {
      most = x[i]!
      best = i
    }
  }
  return best
}

/** log Σ exp(x / T), in double precision. */
const logSumExp = (x: Float32Array, temperature = 1): number => {
  const most = x[argmax(x)]!
  let sum = 0
  for (let i = 0; i < x.length; i++) sum += Math.exp((x[i]! - most) / temperature)
  return most / temperature + Math.log(sum)
}

/** The ids of x from `bound` on, in ascending order. */
const above = (x: Float32Array, bound: number): Array<number> => {
  const ids: Array<number> = []
  for (let i = 0; i < x.length; i++) if (x[i]! >= bound) ids.push(i)
  return ids
}

/** The ids that the filters keep, in ascending order; undefined when they keep all. */
const survivors = (
  x: Float32Array,
  { minP = 0, temperature, topK = x.length, topP = 1 }: Options,
  tempered: number | undefined
): ReadonlyArray<number> | undefined => {
  if (topK >= x.length && topP >= 1 && minP <= 0) return undefined
  const most = x[argmax(x)]!
  const weight = (id: number) => Math.exp((x[id]! - most) / temperature)
  // minP · p(likeliest) ≤ p  ⇔  T log minP ≤ x − most
  const bound = minP <= 0 ? Number.NEGATIVE_INFINITY : most + temperature * Math.log(minP)
  const within = (ids: ReadonlyArray<number>) => (minP <= 0 ? ids : ids.filter((id) => x[id]! >= bound))
  if (topK < x.length) {
    const kept = likeliest(x, topK)
    if (topP >= 1) return within(kept)
    const weights = Float64Array.from(kept, weight)
    return within(nucleus(x, kept, weights, topP * sum(weights)))
  }
  if (topP >= 1) return above(x, bound)
  const target = topP * Math.exp((tempered ?? logSumExp(x, temperature)) - most / temperature)
  // Only tokens that may belong to the nucleus are looked at, which are few.
  for (let width = 4; ; width *= 2) {
    const ids = above(x, most - width * temperature)
    const weights = Float64Array.from(ids, weight)
    if (ids.length < x.length && width < 1e4 && sum(weights) < target) continue
    return within(nucleus(x, ids, weights, target))
  }
}

const sum = (numbers: Float64Array): number => {
  let total = 0
  for (let i = 0; i < numbers.length; i++) total += numbers[i]!
  return total
}

/** The k likeliest ids, in ascending order. */
const likeliest = (x: Float32Array, k: number): ReadonlyArray<number> => {
  const least = kthLargest(x, k)
  const ids = above(x, least)
  // Of those as likely as the last one, the first.
  let excess = ids.length - k
  for (let i = ids.length - 1; excess > 0; i--) {
    if (x[ids[i]!] !== least) continue
    ids.splice(i, 1)
    excess--
  }
  return ids
}

/** Ranges of logits that {@link nucleus} sums. */
const ranges = 512

/**
 * The fewest of the likeliest of `ids`, ascending ones with weights that rise with their logits, that together reach the
 * target; ascending, too. Sums over ranges of logits tell in which of them the last one is, and only those are sorted.
 */
const nucleus = (
  x: Float32Array,
  ids: ReadonlyArray<number>,
  weights: Float64Array,
  target: number
): ReadonlyArray<number> => {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const id of ids) {
    const logit = x[id]!
    if (logit > most) most = logit
    if (logit < least && logit !== Number.NEGATIVE_INFINITY) least = logit
  }
  const perRange = most > least ? ranges / (most - least) : 0
  const rangeOf = (id: number) => (x[id] === most ? 0 : Math.min(ranges - 1, Math.floor((most - x[id]!) * perRange)))
  const sums = new Float64Array(ranges)
  for (let i = 0; i < ids.length; i++) sums[rangeOf(ids[i]!)]! += weights[i]!
  let reached = 0
  let range = 0
  while (range < ranges - 1 && reached + sums[range]! < target) reached += sums[range++]!
  const edge = ids.flatMap((id, i) => (rangeOf(id) === range ? [{ id, weight: weights[i]! }] : []))
  edge.sort((a, b) => x[b.id]! - x[a.id]! || a.id - b.id)
  const last = edge.findIndex(({ weight }) => (reached += weight) >= target)
  if (last < 0) return ids
  const end = edge[last]!.id
  return ids.filter((id) => x[id]! > x[end]! || (x[id] === x[end] && id <= end))
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
