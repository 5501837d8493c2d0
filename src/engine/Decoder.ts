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
import { enqueue, need, note, rankOf, sampling } from "./DecodeJob.ts"
import type { Continuation, Job, Request } from "./DecodeJob.ts"
import * as DecodeProgram from "./DecodeProgram.ts"
import * as KvCache from "./KvCache.ts"
import * as Prefill from "./Prefill.ts"
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

/**
 * Tokens of one run of a prefill, padding included: enough for products at full speed, and few enough that what lies
 * between two operators stays in the cache. It also bounds the length of a run, which nothing can interrupt.
 */
const prefillTokens = 512

/** Rows that the cache has room for at least. */
const leastSlots = 2

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
  const bytes = KvCache.bytes(config, leastSlots, need(request))
  if (bytes <= memory) return undefined
  const message = `${need(request)} tokens need ${bytes} bytes of keys and values, and ${memory} are allowed; allow more, or ask for fewer tokens.`
  return new DecoderError({ reason: "memory", message })
}

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
  const maxSlots = Math.max(leastSlots, maxRows)
  const lastPosition = config.maxPositions - 1
  // The adapters in the order of their turns.
  const queues = new Map<Adapters.Adapter | undefined, Array<Job>>()
  let arrivals = 0
  let serving = 0
  const arrival = yield* Latch.make(false)
  const sessions = new Map<string, Session.Session>()
  const waitFor = yield* Waiting.make

  const sessionFor = Effect.fnUntraced(function* (
    adapter: Adapters.Adapter | undefined,
    program: "build" | "burst" = "build"
  ) {
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
    const active: Array<Job> = []

    const work = Effect.gen(function* () {
      const session = yield* sessionFor(adapter)
      const weights = adapter === undefined ? {} : Adapters.feeds(adapter)
      const vector = adapter?.vector
      // One row alone would be multiplied with an adapter by other kernels, which round differently.
      const leastRows = adapter === undefined ? 1 : leastSlots
      let cache = KvCache.make(config, { memory: options.memory, maxSlots })

      /** How many waiting prompts there is room for beside the active rows. */
      const admissible = (): number => {
        const waiting = queues.size > 1 ? Math.min(turn, queue.length) : queue.length
        let tokens = Math.max(cache.capacity(), ...active.map(({ request }) => need(request)))
        let count = 0
        while (count < waiting) {
          tokens = Math.max(tokens, need(queue[count]!.request))
          const slots = Math.min(maxRows, KvCache.slotsWithin(config, options.memory, tokens))
          if (active.length + count + 1 > slots) break
          count++
        }
        return count
      }

      /** Takes waiting prompts into free rows. */
      const admit = Effect.fnUntraced(function* () {
        let wanted = 0
        for (const job of queue) if (job.finish === undefined) queue[wanted++] = job
        queue.length = wanted
        // An adapter that has learnt meanwhile: rows end with the weights that they began with, others wait for them.
        if (adapter?.vector !== vector) return
        if (active.length === 0) cache = KvCache.make(config, { memory: options.memory, maxSlots })
        const count = admissible()
        // Small prefills waste a run: rows are refilled together, unless nothing else is left to do.
        if (count === 0 || (active.length > 0 && count < Math.min(queue.length, (active.length + count) / 8))) return
        turn -= count
        const first = active.length
        active.push(...queue.splice(0, count))
        serving = active.length
        const longest = Math.max(...active.slice(first).map(({ request }) => request.ids.length))
        cache.reserve(Math.max(leastSlots, active.length), longest + 1)
        const prompts = active.map(({ request }, slot) => ({ slot, ids: request.ids }))
        const { copies, runs } = Prefill.plan(prompts.slice(first), prompts.slice(0, first), prefillTokens)
        for (const { end, from, start, to } of copies) cache.copy(from, to, start, end)
        for (const run of runs) yield* prefill(run)
      })

      const prefill = Effect.fnUntraced(function* ({ copies, ends, rows, width }: Prefill.Run) {
        const slots = rows.map(({ slot }) => slot)
        const past = rows[0]!.start > 0
        const jobs = ends.map(({ slot }) => active[slot]!)
        const feeds: Session.Feeds = {
          ...Program.tokenFeeds(
            rows.map(({ ids }) => ids),
            width
          ),
          // What pads a row has a position, too, and the rotary tables end somewhere.
          positions: Session.int64(
            rows.flatMap(({ start }) => Array.from({ length: width }, (_, t) => Math.min(start + t, lastPosition))),
            [rows.length, width]
          ),
          ...(past ? cache.feeds(slots, true) : KvCache.emptyFeeds(config, rows.length))
        }
        const at = ends.map(({ row }) => row * width + rows[row]!.ids.length - 1)
        const results = yield* run(feeds, at, jobs, width)
        cache.append(
          Session.floats(results["rows"]!),
          rows.length,
          width,
          rows.map(({ ids, slot }, row) => ({ row, slot, tokens: ids.length }))
        )
        for (const { end, from, start, to } of copies) cache.copy(from, to, start, end)
        note(jobs, results)
      })

      /** What the next token of every active row depends on. */
      const next = (rows: number): Session.Feeds => ({
        ids: Session.int64(
          Array.from({ length: rows }, (_, row) => active[row]?.tokenIds.at(-1) ?? 0),
          [rows, 1]
        ),
        positions: Session.int64(cache.lengths.subarray(0, rows), [rows, 1]),
        ...cache.feeds(Array.from({ length: rows }, (_, row) => row))
      })

      /** New tokens for every active row: one, or a burst of them. */
      const advance = Effect.fnUntraced(function* () {
        const rows = Math.max(leastRows, active.length)
        const left = Math.max(...active.map(({ request, tokenIds }) => request.maxTokens - tokenIds.length))
        const steps = active.every(({ plain }) => plain) ? Math.min(burst, left) : 1
        const feeds = next(rows)
        const results = yield* steps === 1 ? advanceOne(feeds) : advanceBurst(feeds, rows, steps)
        const before = active.map(({ tokenIds }) => tokenIds.length)
        note(active, results)
        const writes = active.map(({ tokenIds }, row) => ({ row, slot: row, tokens: tokenIds.length - before[row]! }))
        cache.append(Session.floats(results["rows"]!), rows, steps, writes)
      })

      const advanceOne = (feeds: Session.Feeds) => {
        const causal = Session.float32(new Float32Array(1), [1, 1])
        const at = active.map((_, row) => row)
        return run({ ...feeds, causal }, at, active, 1)
      }

      const advanceBurst = Effect.fnUntraced(function* (feeds: Session.Feeds, rows: number, steps: number) {
        return yield* (yield* sessionFor(adapter, "burst")).run({
          ...feeds,
          ...weights,
          ...sampling(active, rows, steps),
          steps: Session.int64([steps], []),
          sizes: Session.int64([feeds["past_mask"]!.dims[3]!, steps], [2])
        })
      })

      /** Runs the graph, sampling for each job at its flat position of `at`. */
      const run = (feeds: Session.Feeds, at: ReadonlyArray<number>, jobs: ReadonlyArray<Job>, width: number) => {
        const wanted = jobs.flatMap(({ plain }, i) => (plain ? [] : [i]))
        // A run that samples nothing reads a position all the same: tensors cannot be empty everywhere.
        const read = Math.max(leastRows, at.length)
        return session.run(
          {
            ...feeds,
            ...weights,
            ...sampling(jobs, read),
            last: Session.int64([...at, ...Array<number>(read - at.length).fill(0)], [read]),
            wanted: Session.int64(wanted, [wanted.length]),
            sizes: Session.int64([feeds["past_mask"]!.dims[3]!, width], [2])
          },
          ["token", "logprob", "probability", "rows", ...(wanted.length === 0 ? [] : ["logits"])]
        )
      }

      yield* admit()
      while (active.length > 0) {
        if (active.every(({ finish }) => finish === undefined)) yield* advance()
        yield* close(cache)
        yield* admit()
      }
    })

    /** Ends the rows that are finished. The last row takes the freed place, so the active rows stay the first ones. */
    const close = Effect.fnUntraced(function* (cache: KvCache.KvCache) {
      for (let i = active.length - 1; i >= 0; i--) {
        const job = active[i]!
        if (job.finish === undefined) continue
        const last = active.length - 1
        if (i !== last) {
          cache.copy(last, i, 0, cache.lengths[last]!)
          active[i] = active[last]!
        }
        cache.lengths[last] = 0
        active.pop()
        const { done, finish, logprobs, samplingLogprobs, tokenIds } = job
        if (finish !== "abandoned") yield* Deferred.succeed(done, { tokenIds, logprobs, samplingLogprobs, finish })
      }
      serving = active.length
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
