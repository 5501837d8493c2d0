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
export const need = ({ ids, maxTokens }: Request): number => ids.length + maxTokens

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

/** Notes the tokens of a burst, [steps, rows], up to the one that ends a request. */
export const noteBurst = (jobs: ReadonlyArray<Job>, results: Readonly<Record<string, Session.Tensor>>): void => {
  const [steps, rows] = results["token"]!.dims as [number, number]
  const tokens = results["token"]!.data as BigInt64Array
  const logprobs = Session.floats(results["logprob"]!)
  const probabilities = Session.floats(results["probability"]!)
  jobs.forEach((job, i) => {
    for (let step = 0; step < steps && job.finish === undefined; step++) {
      const at = step * rows + i
      const logprob = logprobs[at]!
      const samplingLogprob = underSampling(job, logprob, probabilities[at]!)
      push(job, { token: Number(tokens[at]!), logprob, samplingLogprob })
    }
  })
}

/** The log-probability of a token that the graph drew from the whole vocabulary. */
const underSampling = ({ request }: Job, logprob: number, probability: number): number =>
  Sampling.isGreedy(request) ? 0 : request.temperature === 1 ? logprob : Math.log(probability)

/** Adds a token to a job, which may end with it. */
const push = (job: Job, { logprob, samplingLogprob, token }: Sampling.Draw): void => {
  const { maxTokens, stop, stopIds } = job.request
  job.tokenIds.push(token)
  job.logprobs.push(logprob)
  job.samplingLogprobs.push(samplingLogprob)
  if (job.finish !== undefined) return
  if (stopIds.has(token) || stop?.(job.tokenIds) === true) job.finish = "stop"
  else if (job.tokenIds.length >= maxTokens) job.finish = "length"
}

/** Notes the sampled tokens, and which requests end with them. */
export const note = (jobs: ReadonlyArray<Job>, results: Readonly<Record<string, Session.Tensor>>): void => {
  const tokens = results["token"]!.data as BigInt64Array
  const logprobs = Session.floats(results["logprob"]!)
  const probabilities = Session.floats(results["probability"]!)
  let filtered = 0
  jobs.forEach((job, i) => {
    const [token, logprob] = [Number(tokens[i]!), logprobs[i]!]
    if (job.plain) {
      push(job, { token, logprob, samplingLogprob: underSampling(job, logprob, probabilities[i]!) })
      return
    }
    const logits = results["logits"]!
    const width = logits.dims[1]!
    const row = Session.floats(logits).subarray(filtered * width, (filtered + 1) * width)
    filtered++
    const seen = job.request.ids.concat(job.tokenIds)
    // The graph's own token and its probabilities tell the sums of those of all tokens.
    const tempered = row[token]! / job.request.temperature - Math.log(probabilities[i]!)
    const known = { normalizer: row[token]! - logprob, tempered }
    push(job, Sampling.draw(row, job.request, uniformFor(job), seen, known))
  })
}

/**
 * What takes the likeliest token in the graph: a temperature at which no other has a probability, and a number that falls
 * on the first of those that are equally likely. A power of two, as two logits must not become one by rounding.
 */
export const greedy = { inverseTemperature: 2 ** 40, uniform: 2 ** -24 }

/** The feeds that sampling needs for the next token of each job, the first of so many rows. */
export const sampling = (jobs: ReadonlyArray<Job>, rows: number): Session.Feeds => ({
  inverse_temperature: temperatures(jobs, rows),
  uniform: Session.float32(uniforms(jobs, rows, 1), [rows, 1])
})

/** The same for the next `steps` tokens of each. */
export const samplingBurst = (jobs: ReadonlyArray<Job>, rows: number, steps: number): Session.Feeds => ({
  inverse_temperature: temperatures(jobs, rows),
  uniform: Session.float32(uniforms(jobs, rows, steps), [steps, rows, 1])
})

const temperatures = (jobs: ReadonlyArray<Job>, rows: number): Session.Tensor => {
  const inverse = new Float32Array(rows).fill(1)
  jobs.forEach(({ request }, i) => {
    inverse[i] = Sampling.isGreedy(request) ? greedy.inverseTemperature : 1 / request.temperature
  })
  return Session.float32(inverse, [rows, 1])
}

const uniforms = (jobs: ReadonlyArray<Job>, rows: number, steps: number): Float32Array => {
  const numbers = new Float32Array(steps * rows)
  jobs.forEach((job, i) => {
    const same = Sampling.isGreedy(job.request)
    for (let step = 0; step < steps; step++) {
      numbers[step * rows + i] = same ? greedy.uniform : uniformFor(job, step)
    }
  })
  return numbers
}
