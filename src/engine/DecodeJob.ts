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
  readonly plain: boolean
  readonly done: Deferred.Deferred<Continuation, Session.SessionError>
  readonly tokenIds: Array<number>
  readonly logprobs: Array<number>
  readonly samplingLogprobs: Array<number>
  finish: "stop" | "length" | "abandoned" | undefined
}

/** The tokens that a request may come to hold. */
export const need = ({ ids, maxTokens }: Request): number => ids.length + maxTokens

/** The uniform number for the next token of a request. */
const uniformFor = ({ request, tokenIds }: Job): number =>
  Random.uniform(
    request.seed,
    "token",
    request.id,
    tokenIds.length,
    ...(request.sample === undefined ? [] : [request.sample])
  )

/** Notes the sampled tokens, and which requests end with them. */
export const note = (jobs: ReadonlyArray<Job>, results: Readonly<Record<string, Session.Tensor>>): void => {
  const tokens = results["token"]!.data as BigInt64Array
  const logprobs = Session.floats(results["logprob"]!)
  const probabilities = Session.floats(results["probability"]!)
  let filtered = 0
  jobs.forEach((job, i) => {
    const { maxTokens, stop, stopIds, temperature } = job.request
    let token = Number(tokens[i]!)
    let logprob = logprobs[i]!
    let samplingLogprob = temperature === 1 ? logprob : Math.log(probabilities[i]!)
    if (!job.plain) {
      const logits = results["logits"]!
      const width = logits.dims[1]!
      const row = Session.floats(logits).subarray(filtered * width, (filtered + 1) * width)
      filtered++
      const seen = job.request.ids.concat(job.tokenIds)
      // The graph's own token and its log-probability tell log Σ exp(logits).
      const drawn = Sampling.draw(row, job.request, uniformFor(job), seen, row[token]! - logprob)
      ;({ logprob, samplingLogprob, token } = drawn)
    }
    job.tokenIds.push(token)
    job.logprobs.push(logprob)
    job.samplingLogprobs.push(samplingLogprob)
    if (job.finish !== undefined) return
    if (stopIds.has(token) || stop?.(job.tokenIds) === true) job.finish = "stop"
    else if (job.tokenIds.length >= maxTokens) job.finish = "length"
  })
}

/** The feeds that sampling needs for the next token of each job, the first of so many rows. */
export const sampling = (jobs: ReadonlyArray<Job>, rows: number): Session.Feeds => {
  // The greedy token is taken from the logits themselves.
  const inverse = new Float32Array(rows).fill(1)
  const uniform = new Float32Array(rows)
  jobs.forEach((job, i) => {
    if (!Sampling.isGreedy(job.request)) inverse[i] = 1 / job.request.temperature
    uniform[i] = uniformFor(job)
  })
  return {
    inverse_temperature: Session.float32(inverse, [rows, 1]),
    uniform: Session.float32(uniform, [rows, 1])
  }
}
