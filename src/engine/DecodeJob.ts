/**
 * DecodeJob: a request on its way through the decoder: what has been sampled for it, and what the next token needs.
 */
import type { Deferred } from "effect"
import * as Session from "../onnx/Session.ts"
import * as Random from "../Random.ts"
import type * as Adapters from "./Adapters.ts"
import * as Sampling from "./Sampling.ts"

/** A prompt to continue. */
export interface Request extends Sampling.Options {
  /** What the random numbers are for: two requests of one seed, id and sample draw the same. */
  readonly id: string
  /** Which of several continuations of one request this is; the first, 0, is left out. */
  readonly sample?: number
  /** At least one token. */
  readonly ids: ReadonlyArray<number>
  readonly adapter: Adapters.Adapter | undefined
  readonly seed: number
  readonly maxTokens: number
  /** Tokens that end the continuation; the one that does is its last. */
  readonly stopIds: ReadonlySet<number>
  /** Whether the tokens so far end the continuation for another reason, such as a stop text. */
  readonly stop?: (tokenIds: ReadonlyArray<number>) => boolean
}

/** A continuation, with log-probabilities in nats. */
export interface Continuation {
  readonly tokenIds: ReadonlyArray<number>
  /** Of each token under the model at temperature 1, without any filter. */
  readonly logprobs: ReadonlyArray<number>
  /** Of each token under the distribution that it was drawn from. */
  readonly samplingLogprobs: ReadonlyArray<number>
  readonly finish: "stop" | "length"
}

/** A request that is waiting or being served. */
export interface Job {
  readonly request: Request
  /** The place among those who wait: see {@link enqueue}. */
  readonly rank: number
  readonly plain: boolean
  readonly done: Deferred.Deferred<Continuation, Session.SessionError>
  readonly tokenIds: Array<number>
  readonly logprobs: Array<number>
  readonly samplingLogprobs: Array<number>
  finish: "stop" | "length" | "abandoned" | undefined
}

/** The tokens that a request may come to hold. */
export const need = ({ ids, maxTokens }: Pick<Request, "ids" | "maxTokens">): number => ids.length + maxTokens

/** Tokens up to which requests are alike, and requests that a longer one lets pass for each doubling of them. */
const alike = { tokens: 256, passing: 256 }

/**
 * The rank of the `arrival`-th request, the smallest of which is served first. All rows of a batch take the room of the
 * longest, so those alike in length go together: a longer one lets a number of later ones pass, but no more.
 */
export const rankOf = (request: Request, arrival: number): number =>
  arrival + alike.passing * Math.max(0, Math.ceil(Math.log2(need(request) / alike.tokens)))

/** Puts a job where its rank belongs. */
export const enqueue = (queue: Array<Job>, job: Job): void => {
  let at = queue.length
  while (at > 0 && queue[at - 1]!.rank > job.rank) at--
  queue.splice(at, 0, job)
}

/** The uniform number for the next token of a request, or for one further `ahead`. */
const uniformFor = ({ request, tokenIds }: Job, ahead = 0): number =>
  Random.uniform(
    request.seed,
    "token",
    request.id,
    tokenIds.length + ahead,
    ...(request.sample === undefined ? [] : [request.sample])
  )

/** A token that the graph drew, and its probabilities. */
interface InGraph {
  readonly token: number
  readonly logprob: number
  readonly probability: number
}

/** The token that the graph drew from the whole vocabulary. */
const fromGraph = ({ request }: Job, { logprob, probability, token }: InGraph): Sampling.Draw => {
  const sampled = request.temperature === 1 ? logprob : Math.log(probability)
  return { token, logprob, samplingLogprob: Sampling.isGreedy(request) ? 0 : sampled }
}

/** A token that filters leave of a row of logits. The graph's own one tells the sums of the probabilities of all. */
const fromLogits = (job: Job, row: Float32Array, { logprob, probability, token }: InGraph): Sampling.Draw =>
  Sampling.draw(row, job.request, uniformFor(job), job.request.ids.concat(job.tokenIds), {
    normalizer: row[token]! - logprob,
    tempered: row[token]! / job.request.temperature - Math.log(probability)
  })

/** Adds a token to a job, which may end with it. */
const push = (job: Job, { logprob, samplingLogprob, token }: Sampling.Draw): void => {
  const { maxTokens, stop, stopIds } = job.request
  job.tokenIds.push(token)
  job.logprobs.push(logprob)
  job.samplingLogprobs.push(samplingLogprob)
  if (stopIds.has(token) || stop?.(job.tokenIds) === true) job.finish = "stop"
  else if (job.tokenIds.length >= maxTokens) job.finish = "length"
}

/** Notes the sampled tokens, [rows] or [steps, rows], and which requests end with them: what is after is left out. */
export const note = (jobs: ReadonlyArray<Job>, results: Readonly<Record<string, Session.Tensor>>): void => {
  const tokens = results["token"]!.data as BigInt64Array
  const rows = results["token"]!.dims.at(-1)!
  const logprobs = Session.floats(results["logprob"]!)
  const probabilities = Session.floats(results["probability"]!)
  let filtered = 0
  const nextLogits = (): Float32Array => {
    const logits = results["logits"]!
    const width = logits.dims[1]!
    return Session.floats(logits).subarray(filtered * width, ++filtered * width)
  }
  jobs.forEach((job, i) => {
    const logits = job.plain ? undefined : nextLogits()
    for (let at = i; at < tokens.length && job.finish === undefined; at += rows) {
      const drawn = { token: Number(tokens[at]!), logprob: logprobs[at]!, probability: probabilities[at]! }
      push(job, logits === undefined ? fromGraph(job, drawn) : fromLogits(job, logits, drawn))
    }
  })
}

/**
 * What takes the likeliest token in the graph: a temperature at which no other has a probability, and a number that falls
 * on the first of those that are equally likely. A power of two, as two logits must not become one by rounding.
 */
export const greedy = { inverseTemperature: 2 ** 40, uniform: 2 ** -24 }

/** The feeds that sampling needs for the next token of each job, or the next `steps`, the first of so many rows. */
export const sampling = (jobs: ReadonlyArray<Job>, rows: number, steps?: number): Session.Feeds => {
  const inverse = new Float32Array(rows).fill(1)
  const uniform = new Float32Array((steps ?? 1) * rows)
  jobs.forEach((job, i) => {
    const isGreedy = Sampling.isGreedy(job.request)
    inverse[i] = isGreedy ? greedy.inverseTemperature : 1 / job.request.temperature
    for (let step = 0; step < (steps ?? 1); step++) {
      uniform[step * rows + i] = isGreedy ? greedy.uniform : uniformFor(job, step)
    }
  })
  return {
    inverse_temperature: Session.float32(inverse, [rows, 1]),
    uniform: Session.float32(uniform, steps === undefined ? [rows, 1] : [steps, rows, 1])
  }
}
