/**
 * Decoder: continuous batching over a base and its adapters.
 *
 * Requests wait in a queue. Those of one adapter share the rows of a batch; a row that ends is given to the next
 * prompt. All randomness comes from (seed, id, position). Knows token ids, not text.
 */
import { Deferred, Effect, Latch, Scope } from "effect"
import type { Checkpoint } from "../model/Checkpoint.ts"
import * as Session from "../onnx/Session.ts"
import * as Random from "../Random.ts"
import * as Adapters from "./Adapters.ts"
import * as DecodeProgram from "./DecodeProgram.ts"
import * as KvCache from "./KvCache.ts"
import * as Program from "./Program.ts"

/** A prompt to continue. */
export interface Request {
  readonly id: string
  readonly ids: ReadonlyArray<number>
  readonly adapter: Adapters.Adapter | undefined
  readonly seed: number
  readonly maxTokens: number
  /** 0 is greedy. */
  readonly temperature: number
  /** Tokens that end the continuation; the one that does is its last. */
  readonly stopIds: ReadonlySet<number>
  /** Whether the tokens so far end the continuation for another reason, such as a stop text. */
  readonly stop?: (tokenIds: ReadonlyArray<number>) => boolean
}

/** A continuation: `logprobs` are nats under the model at temperature 1. */
export interface Continuation {
  readonly tokenIds: ReadonlyArray<number>
  readonly logprobs: ReadonlyArray<number>
  readonly finish: "stop" | "length"
}

export interface Decoder {
  readonly generate: (request: Request) => Effect.Effect<Continuation, Session.SessionError>
  /** Whether any request is waiting or being served. */
  readonly busy: () => boolean
}

export interface Options {
  /** Bytes that the cache may take; requests wait for a place in it. */
  readonly memory: number
  /** Rows of a batch at most. */
  readonly maxRows: number
}

interface Job {
  readonly request: Request
  readonly done: Deferred.Deferred<Continuation, Session.SessionError>
  readonly tokenIds: Array<number>
  readonly logprobs: Array<number>
}

/** Prompt tokens of one prefill, padding included. */
const prefillTokens = 4096

/** A decoder that serves its queue until the scope closes. */
export const make = Effect.fnUntraced(function* (
  checkpoint: Checkpoint,
  options: Options
): Effect.fn.Return<Decoder, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const { config } = checkpoint
  const waiting: Array<Job> = []
  let serving = 0
  const arrival = yield* Latch.make(false)
  const sessions = new Map<string, Session.Session>()

  const sessionFor = Effect.fnUntraced(function* (adapter: Adapters.Adapter | undefined) {
    const key = Adapters.key(adapter)
    const known = sessions.get(key)
    if (known !== undefined) return known
    const session = yield* Session.make(DecodeProgram.build(checkpoint, adapter), {
      folder: Program.weightsFolder
    }).pipe(Effect.provideService(Scope.Scope, scope))
    sessions.set(key, session)
    return session
  })

  /** Serves the waiting requests of one adapter until none is left. */
  const serve = Effect.fnUntraced(function* (adapter: Adapters.Adapter | undefined) {
    const session = yield* sessionFor(adapter)
    const weights = adapter === undefined ? {} : Adapters.feeds(adapter)
    const mine = waiting.filter((j) => j.request.adapter === adapter)
    const longest = Math.max(...mine.map((j) => j.request.ids.length + j.request.maxTokens))
    const affordable = Math.floor(options.memory / (KvCache.bytesPerToken(config) * (Math.ceil(longest / 64) * 64)))
    const slots = Math.max(1, Math.min(options.maxRows, affordable))
    const cache = KvCache.make(config, slots)
    const active: Array<Job> = []

    /** Takes waiting prompts into the free rows. */
    const admit = Effect.fnUntraced(function* () {
      const free = slots - active.length
      const next = waiting.filter((j) => j.request.adapter === adapter)
      // Small prefills waste a run: rows are refilled together, unless nothing else is left to do.
      if (next.length === 0 || (active.length > 0 && free < Math.min(next.length, Math.ceil(slots / 4)))) return
      const taken: Array<Job> = []
      let width = 0
      for (const job of next) {
        width = Math.max(width, job.request.ids.length)
        if (taken.length === free || (taken.length > 0 && (taken.length + 1) * width > prefillTokens)) break
        taken.push(job)
      }
      for (const job of taken) waiting.splice(waiting.indexOf(job), 1)
      const rows = taken.map((j) => j.request.ids)
      const T = Math.max(...rows.map((r) => r.length))
      const results = yield* session.run({
        ...Program.tokenFeeds(rows),
        ...KvCache.emptyFeeds(config, rows.length),
        ...sampling(taken),
        ...weights,
        sizes: Session.int64([1, T], [2]),
        last: Session.int64(
          rows.map((r, b) => b * T + r.length - 1),
          [rows.length]
        )
      })
      const first = active.length
      taken.forEach((_, i) => (cache.lengths[first + i] = 0))
      cache.append(
        Session.floats(results["rows"]!),
        rows.length,
        T,
        rows.map((r, i) => ({ row: i, slot: first + i, tokens: r.length }))
      )
      active.push(...taken)
      yield* record(results, first)
    })

    /** One new token for every active row. */
    const advance = Effect.fnUntraced(function* () {
      const count = active.length
      const feeds: Session.Feeds = {
        ids: Session.int64(
          active.map((j) => j.tokenIds.at(-1)!),
          [count, 1]
        ),
        positions: Session.int64(cache.lengths.subarray(0, count), [count, 1]),
        causal: Session.float32(new Float32Array(1), [1, 1]),
        ...cache.feeds(count),
        ...sampling(active),
        ...weights,
        last: Session.int64(
          active.map((_, b) => b),
          [count]
        )
      }
      const capacity = feeds["past_mask"]!.dims[3]!
      const results = yield* session.run({ ...feeds, sizes: Session.int64([capacity, 1], [2]) })
      cache.append(
        Session.floats(results["rows"]!),
        count,
        1,
        active.map((_, i) => ({ row: i, slot: i, tokens: 1 }))
      )
      yield* record(results, 0)
    })

    /** Notes the sampled tokens of the rows from `first` and closes the rows that end. */
    const record = Effect.fnUntraced(function* (results: Record<string, Session.Tensor>, first: number) {
      const tokens = results["token"]!.data as BigInt64Array
      const logprobs = Session.floats(results["logprob"]!)
      for (let i = active.length - 1; i >= first; i--) {
        const job = active[i]!
        const token = Number(tokens[i - first]!)
        job.tokenIds.push(token)
        job.logprobs.push(logprobs[i - first]!)
        const stopped = job.request.stopIds.has(token) || job.request.stop?.(job.tokenIds) === true
        if (!stopped && job.tokenIds.length < job.request.maxTokens) continue
        // The last active row takes the freed place, so the active rows stay the first ones.
        const last = active.length - 1
        if (i !== last) {
          cache.move(last, i)
          active[i] = active[last]!
        }
        active.pop()
        yield* Deferred.succeed(job.done, {
          tokenIds: job.tokenIds,
          logprobs: job.logprobs,
          finish: stopped ? "stop" : "length"
        })
      }
    })

    yield* Effect.gen(function* () {
      do {
        yield* admit()
        serving = active.length
        if (active.length > 0) yield* advance()
      } while (active.length > 0 || waiting.some((j) => j.request.adapter === adapter))
    }).pipe(
      Effect.catch((error) =>
        Effect.forEach(active.splice(0), (job) => Deferred.fail(job.done, error), { discard: true })
      )
    )
  })

  yield* Effect.forever(
    Effect.gen(function* () {
      yield* arrival.await
      while (waiting.length > 0) {
        const { adapter } = waiting[0]!.request
        yield* Effect.catch(serve(adapter), (error) => {
          const failed = waiting.filter((j) => j.request.adapter === adapter)
          for (const job of failed) waiting.splice(waiting.indexOf(job), 1)
          return Effect.forEach(failed, (job) => Deferred.fail(job.done, error), { discard: true })
        })
      }
      serving = 0
      yield* arrival.close
    })
  ).pipe(Effect.forkIn(scope))

  return {
    busy: () => serving > 0 || waiting.length > 0,
    generate: (request) =>
      Effect.gen(function* () {
        const done = yield* Deferred.make<Continuation, Session.SessionError>()
        const job: Job = { request, done, tokenIds: [], logprobs: [] }
        waiting.push(job)
        yield* arrival.open
        // Who no longer waits for an answer leaves the queue.
        return yield* Deferred.await(done).pipe(
          Effect.onInterrupt(() =>
            Effect.sync(() => {
              const at = waiting.indexOf(job)
              if (at >= 0) waiting.splice(at, 1)
            })
          )
        )
      })
  }
})

/** The feeds that sampling needs for the next token of each job. */
const sampling = (jobs: ReadonlyArray<Job>): Session.Feeds => {
  const count = jobs.length
  const inverse = new Float32Array(count)
  const uniform = new Float32Array(count)
  const greedy = new Uint8Array(count)
  jobs.forEach(({ request, tokenIds }, i) => {
    inverse[i] = request.temperature === 0 ? 1 : 1 / request.temperature
    greedy[i] = request.temperature === 0 ? 1 : 0
    uniform[i] = Random.uniform(request.seed, "token", request.id, tokenIds.length)
  })
  return {
    inverse_temperature: Session.float32(inverse, [count, 1]),
    uniform: Session.float32(uniform, [count, 1]),
    greedy: new Session.Tensor("bool", greedy, [count])
  }
}
