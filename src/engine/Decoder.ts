/**
 * Decoder: continuous batching over a base and its adapters.
 *
 * Requests wait in a queue for each adapter, those alike in length together. Those of one adapter share the rows of a
 * batch; a row that ends is given to the next prompt; the adapters take turns. All randomness comes from (seed, id,
 * position), and what else is in the batch changes no bit of a result. Knows token ids, not text.
 */
import { Deferred, Effect, Latch, Schema, Scope } from "effect"
import type { ModelConfig } from "../model/ModelConfig.ts"
import * as Session from "../onnx/Session.ts"
import * as Adapters from "./Adapters.ts"
import type { Base } from "./Base.ts"
import * as DecodeBatch from "./DecodeBatch.ts"
import { enqueue, need, rankOf } from "./DecodeJob.ts"
import type { Continuation, Job, Request } from "./DecodeJob.ts"
import * as DecodeProgram from "./DecodeProgram.ts"
import * as KvCache from "./KvCache.ts"
import * as Program from "./Program.ts"
import * as Sampling from "./Sampling.ts"
import * as Waiting from "./Waiting.ts"

export type { Continuation, Request } from "./DecodeJob.ts"

/** A request that the decoder cannot carry out however long it waits. */
export class DecoderError extends Schema.TaggedError<DecoderError>()("DecoderError", {
  reason: Schema.Literals(["context", "memory", "options"]),
  message: Schema.String
}) {}

/** What continues prompts. */
export interface Decoder {
  readonly generate: (request: Request) => Effect.Effect<Continuation, Session.SessionError | DecoderError>
  /** Whether any request is waiting or being served. */
  readonly busy: () => boolean
}

/** The bounds of a decoder. */
export interface Options {
  /** Bytes that keys and values may take: requests wait for their place, and one that can never have it is refused. */
  readonly memory: number
  /** Rows of a batch at most; 1 where less is given. */
  readonly maxRows: number
  /**
   * Tokens that a row gets in one run at most, where nothing is to be looked at between them; a row that ends within
   * them waits for the others. If not given 1, and on a GPU, where keys and values cross the bus at each run, 16.
   */
  readonly burst?: number
}

/** Bytes of keys and values without which a request is refused. */
export const leastMemory = (config: ModelConfig, request: Pick<Request, "ids" | "maxTokens">): number =>
  KvCache.bytes(config, DecodeBatch.leastSlots, need(request))

/**
 * Bytes of keys and values that an engine allows unless it is told otherwise: 1 GiB, or more where a sequence as long as
 * the model allows would be refused, but no more than a quarter of what the machine has.
 */
export const usualMemory = (config: ModelConfig, machine: number): number =>
  Math.max(2 ** 30, Math.min(leastMemory(config, { ids: [], maxTokens: config.maxPositions }), machine / 4))

/** Why a request can never be carried out, if that is so. */
const refusal = (config: ModelConfig, memory: number, request: Request): DecoderError | undefined => {
  const wrong = Sampling.problem(request, config.vocabSize)
  if (wrong !== undefined) return new DecoderError({ reason: "options", message: `Cannot sample: ${wrong}.` })
  const { ids, maxTokens } = request
  if (!(Number.isInteger(maxTokens) && maxTokens > 0)) {
    return new DecoderError({ reason: "options", message: `Cannot sample: max_tokens ${maxTokens} is not above 0.` })
  }
  if (ids.length === 0 || need(request) > config.maxPositions) {
    const message = `A prompt of ${ids.length} tokens with ${maxTokens} more does not fit: the model has ${config.maxPositions} positions.`
    return new DecoderError({ reason: "context", message })
  }
  const bytes = leastMemory(config, request)
  if (bytes <= memory) return undefined
  const message = `${need(request)} tokens need ${bytes} bytes of keys and values, and ${memory} are allowed; allow more, or ask for fewer tokens.`
  return new DecoderError({ reason: "memory", message })
}

/** Tells those who wait for a job what became of it. */
const answer = ({ done, finish, logprobs, samplingLogprobs, tokenIds }: Job) =>
  finish === undefined || finish === "abandoned"
    ? Effect.void
    : Deferred.succeed(done, { tokenIds, logprobs, samplingLogprobs, finish })

/** Rows beyond this are more than any memory has room for, so `Infinity` stands for no bound. */
const mostRows = 2 ** 16

/** A decoder that serves its queues until the scope closes. */
export const make = Effect.fnUntraced(function* (
  checkpoint: Base,
  options: Options
): Effect.fn.Return<Decoder, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const { config, device = "cpu" } = checkpoint
  const { burst = device === "cpu" ? 1 : 16 } = options
  const maxRows = Math.min(mostRows, Math.max(1, Math.floor(options.maxRows)))
  // The adapters in the order of their turns.
  const queues = new Map<Adapters.Adapter | undefined, Array<Job>>()
  let arrivals = 0
  let serving = 0
  const arrival = yield* Latch.make(false)
  const sessions = new Map<string, Session.Session>()
  const waitFor = yield* Waiting.make

  const sessionFor = Effect.fnUntraced(function* (adapter: Adapters.Adapter | undefined, program: "build" | "burst") {
    const key = `${program} ${Adapters.key(adapter)}`
    const known = sessions.get(key)
    if (known !== undefined) return known
    const session = yield* Session.make(DecodeProgram[program](checkpoint, adapter), {
      folder: Program.weightsFolder,
      device
    }).pipe(Effect.provideService(Scope.Scope, scope))
    sessions.set(key, session)
    return session
  })

  /** Serves one adapter's queue: all of it, or what waits now if others wait, too. */
  const serve = Effect.fnUntraced(function* (adapter: Adapters.Adapter | undefined, queue: Array<Job>) {
    let turn = queue.length
    let active: ReadonlyArray<Job> = []

    const work = Effect.gen(function* () {
      const build = yield* sessionFor(adapter, "build")
      const vector = adapter?.vector
      const batch = DecodeBatch.make(
        config,
        adapter,
        { build, burst: sessionFor(adapter, "burst") },
        { memory: options.memory, maxRows, burst }
      )
      active = batch.active

      /** Takes waiting prompts into free rows. */
      const admit = Effect.fnUntraced(function* () {
        let wanted = 0
        for (const job of queue) if (job.finish === undefined) queue[wanted++] = job
        queue.length = wanted
        // An adapter that has learnt meanwhile: rows end with the weights that they began with, others wait for them.
        if (adapter?.vector !== vector) return
        const count = batch.room(queue, queues.size > 1 ? Math.min(turn, queue.length) : queue.length)
        // Small prefills waste a run: rows are refilled together, unless nothing else is left to do.
        if (count === 0 || (active.length > 0 && count < Math.min(queue.length, (active.length + count) / 8))) return
        turn -= count
        serving = active.length + count
        yield* batch.enter(queue.splice(0, count))
      })

      yield* admit()
      while (active.length > 0) {
        if (active.every(({ finish }) => finish === undefined)) yield* batch.advance
        yield* Effect.forEach(batch.leave(), answer, { discard: true })
        serving = active.length
        yield* admit()
      }
    })

    yield* Effect.catchCause(work, (cause) =>
      // What waits now would meet the same failure. A bug is told to those who asked, too: they would wait for ever.
      Effect.forEach([...active, ...queue.splice(0)], (job) => Deferred.failCause(job.done, cause), { discard: true })
    )
    serving = 0
  })

  yield* Effect.forever(
    Effect.gen(function* () {
      yield* arrival.await
      for (const [adapter, queue] of queues) {
        yield* serve(adapter, queue)
        queues.delete(adapter)
        if (queue.length > 0) queues.set(adapter, queue)
      }
      // In one step with the look at the queues, or a request could come between.
      yield* Effect.sync(() => queues.size === 0 && arrival.closeUnsafe())
    })
  ).pipe(Effect.forkIn(scope))

  return {
    busy: () => serving > 0 || queues.size > 0,
    generate: (request) =>
      Effect.gen(function* () {
        const refused = refusal(config, options.memory, request)
        if (refused !== undefined) return yield* refused
        const done = yield* Deferred.make<Continuation, Session.SessionError>()
        const job: Job = {
          request,
          rank: rankOf(request, arrivals++),
          plain: Sampling.isPlain(request),
          done,
          tokenIds: [],
          logprobs: [],
          samplingLogprobs: [],
          finish: undefined
        }
        const queue = queues.get(request.adapter)
        if (queue === undefined) queues.set(request.adapter, [job])
        else enqueue(queue, job)
        yield* arrival.open
        // Who no longer waits for an answer gives up the place in the queue, or the row.
        return yield* waitFor(done).pipe(Effect.onInterrupt(() => Effect.sync(() => (job.finish = "abandoned"))))
      })
  }
})
