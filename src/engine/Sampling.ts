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
  const { minP, topK, topP } = options
  if (!isUnchanged(options)) return false
  if (isGreedy(options)) return true
  return topK === undefined && (topP === undefined || topP >= 1) && (minP === undefined || minP <= 0)
}

/** Whether logits are taken as they are, without bias and penalty. */
const isUnchanged = ({ logitBias, repetitionPenalty = 1 }: Options): boolean =>
  repetitionPenalty === 1 && (logitBias === undefined || logitBias.size === 0)

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
    if (Math.fround(bias) === -Infinity) banned++
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
    : pick(survivors(x, options, tempered), uniform)
  return { ...drawn, logprob: logits[drawn.token]! - normalizer }
}

/** The logits after bias and penalty; the given ones where there is neither. */
const adjusted = (logits: Float32Array, options: Options, seen: Iterable<number>): Float32Array => {
  const { logitBias, repetitionPenalty = 1 } = options
  if (isUnchanged(options)) return logits
  const x = logits.slice()
  for (const [id, bias] of logitBias ?? []) x[id] = Math.min(x[id]! + bias, highest)
  if (repetitionPenalty === 1) return x
  for (const id of new Set(seen)) {
    if (x[id]! > 0) x[id] = Math.min(x[id]! / repetitionPenalty, highest)
    else if (x[id]! > -Infinity) x[id] = Math.max(x[id]! * repetitionPenalty, -highest)
  }
  return x
}

/** Logits beyond this are as good as certain. Infinite ones, which float32 makes of them, have no differences. */
const highest = 2 ** 100

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
  return most / temperature + Math.log(sum(weigh(x, undefined, most, temperature)))
}

const sum = (numbers: Float64Array): number => {
  let total = 0
  for (let i = 0; i < numbers.length; i++) total += numbers[i]!
  return total
}

/** Tokens in ascending order, all of them where `ids` is undefined, with exp((x − most) / T) of each. */
interface Weighed {
  readonly ids: Int32Array | undefined
  readonly weights: Float64Array
}

/** Room for what is kept during one draw: memory taken anew for each token would keep the collector at work. */
let room = { ids: new Int32Array(0), weights: new Float64Array(0), ranges: new Uint16Array(0) }

const roomFor = (count: number): typeof room => {
  if (room.ids.length < count) {
    room = { ids: new Int32Array(count), weights: new Float64Array(count), ranges: new Uint16Array(count) }
  }
  return room
}

const weigh = (x: Float32Array, ids: Int32Array | undefined, most: number, temperature: number): Float64Array => {
  const weights = roomFor(x.length).weights.subarray(0, ids === undefined ? x.length : ids.length)
  for (let i = 0; i < weights.length; i++) {
    weights[i] = Math.exp((x[ids === undefined ? i : ids[i]!]! - most) / temperature)
  }
  return weights
}

/** Those of the tokens for which `keeps` is true, in the place of all. */
const only = ({ ids, weights }: Weighed, keeps: (id: number, i: number) => boolean): Weighed => {
  const kept = roomFor(weights.length).ids
  let count = 0
  for (let i = 0; i < weights.length; i++) {
    const id = ids === undefined ? i : ids[i]!
    if (!keeps(id, i)) continue
    kept[count] = id
    weights[count++] = weights[i]!
  }
  return { ids: kept.subarray(0, count), weights: weights.subarray(0, count) }
}

/** The ids of x from `bound` on, in ascending order. */
const above = (x: Float32Array, bound: number): Int32Array => {
  const { ids } = roomFor(x.length)
  let count = 0
  for (let i = 0; i < x.length; i++) if (x[i]! >= bound) ids[count++] = i
  return ids.subarray(0, count)
}

/** What the filters keep. */
const survivors = (
  x: Float32Array,
  { minP = 0, temperature, topK = x.length, topP = 1 }: Options,
  tempered: number | undefined
): Weighed => {
  const first = topK < x.length ? likeliest(x, topK) : undefined
  const most =
    first === undefined ? x[argmax(x)]! : first.reduce((m, id) => Math.max(m, x[id]!), Number.NEGATIVE_INFINITY)
  const weighed = (ids: Int32Array | undefined): Weighed => ({ ids, weights: weigh(x, ids, most, temperature) })
  // minP · p(likeliest) ≤ p  ⇔  T log minP ≤ x − most
  const bound = minP <= 0 ? Number.NEGATIVE_INFINITY : most + temperature * Math.log(minP)
  const within = (kept: Weighed): Weighed => (minP <= 0 ? kept : only(kept, (id) => x[id]! >= bound))
  if (first !== undefined) {
    const kept = weighed(first)
    return within(topP >= 1 ? kept : nucleus(x, kept, topP * sum(kept.weights)))
  }
  if (topP >= 1) return weighed(minP <= 0 ? undefined : above(x, bound))
  const whole = Math.exp((tempered ?? logSumExp(x, temperature)) - most / temperature)
  // However many tokens are below this one, together they are less than what the nucleus leaves out.
  const least = Math.min(most, most - temperature * Math.log(x.length / ((1 - topP) * whole)))
  return within(nucleus(x, weighed(above(x, least)), topP * whole))
}

/** The k likeliest ids, in ascending order. */
const likeliest = (x: Float32Array, k: number): Int32Array => {
  const least = kthLargest(x, k)
  const ids = above(x, least)
  // Of those as likely as the last one, the first.
  let excess = ids.length - k
  if (excess === 0) return ids
  const last = ids.findLastIndex((id) => x[id] === least && excess-- === 1)
  return ids.filter((id, i) => i < last || x[id] !== least)
}

/** Ranges of logits that {@link nucleus} sums. */
const ranges = 512

/**
 * The fewest of the likeliest tokens whose weights together reach the target. Sums over ranges of logits tell in which of
 * them the last one is, and only those are sorted.
 */
const nucleus = (x: Float32Array, kept: Weighed, target: number): Weighed => {
  const { ids, weights } = kept
  const logit = (i: number) => x[ids === undefined ? i : ids[i]!]!
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (let i = 0; i < weights.length; i++) {
    if (logit(i) > most) most = logit(i)
    if (logit(i) < least && weights[i]! > 0) least = logit(i)
  }
  const perRange = most > least ? ranges / (most - least) : 0
  const rangeOf = roomFor(weights.length).ranges
  const sums = new Float64Array(ranges)
  for (let i = 0; i < weights.length; i++) {
    const below = most - logit(i)
    const range = below === 0 ? 0 : Math.min(ranges - 1, Math.floor(below * perRange))
    rangeOf[i] = range
    sums[range]! += weights[i]!
  }
  let reached = 0
  let range = 0
  while (range < ranges - 1 && reached + sums[range]! < target) reached += sums[range++]!
  const edge: Array<number> = []
  for (let i = 0; i < weights.length; i++) if (rangeOf[i] === range) edge.push(i)
  edge.sort((a, b) => logit(b) - logit(a) || a - b)
  const last = edge.find((i) => (reached += weights[i]!) >= target)
  if (last === undefined) return kept
  const end = logit(last)
  return only(kept, (id, i) => x[id]! > end || (x[id] === end && i <= last))
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

/** Draws a token as its weight suggests: the first up to which the weights are more than their share. */
const pick = ({ ids, weights }: Weighed, uniform: number): Pick<Draw, "token" | "samplingLogprob"> => {
  const total = sum(weights)
  let at = 0
  for (let below = weights[0]!; at < weights.length - 1 && below <= uniform * total; below += weights[at]!) at++
  return { token: ids === undefined ? at : ids[at]!, samplingLogprob: Math.log(weights[at]! / total) }
}
