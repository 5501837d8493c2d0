/**
 * Scorer: what a model makes of given tokens, in batches by length.
 *
 * Requests wait a moment for others of the same adapter and kind; sorted by length they are padded little. Knows token
 * ids, not text.
 */
import { Deferred, Effect, Latch, Scope, Semaphore } from "effect"
import type { Checkpoint } from "../model/Checkpoint.ts"
import type * as Graph from "../onnx/Graph.ts"
import * as Session from "../onnx/Session.ts"
import * as Adapters from "./Adapters.ts"
import type { Base } from "./Base.ts"
import * as Layout from "./Layout.ts"
import { heads } from "./LearnProgram.ts"
import * as Program from "./Program.ts"
import * as ScoreProgram from "./ScoreProgram.ts"
import * as ScoreQueue from "./ScoreQueue.ts"
import * as Trainables from "./Trainables.ts"
import * as Waiting from "./Waiting.ts"

/** Numbers asked of a sequence: at each position of `at`, log p of the target that follows, or a head's scalar. */
export interface Request {
  readonly ids: ReadonlyArray<number>
  readonly adapter: Adapters.Adapter | undefined
  readonly kind: ScoreProgram.Kind
  readonly at: ReadonlyArray<number>
  /** As many as `at`, for `logprobs`. */
  readonly targets: ReadonlyArray<number>
  /** What logits are divided by for `logprobs`; 1 if not given. */
  readonly temperature?: number
}

/** What computes numbers of given tokens. */
export interface Scorer {
  /** One number for each position asked, nats for log-probabilities. */
  readonly score: (request: Request) => Effect.Effect<ReadonlyArray<number>, Session.SessionError>
  /**
   * The same for requests of one adapter, kind and temperature whose rows begin alike: their beginning is computed once.
   * A family is a run by itself, so nothing else can change its numbers.
   */
  readonly family: (
    requests: ReadonlyArray<Request>
  ) => Effect.Effect<ReadonlyArray<ReadonlyArray<number>>, Session.SessionError>
}

/** The bounds of a scorer. */
export interface Options {
  /** Tokens of one run at most, padding included (one longer row is run alone). */
  readonly maxTokens: number
  /** Whether other work has the cores, so that waiting for a fuller batch costs nothing. */
  readonly busy?: () => boolean
}

/** Milliseconds that a request waits for a fuller batch at most. */
const patience = 200

/** Bytes of the logits that exist at a time. */
const logitBytes = 24 * 2 ** 20

interface Job extends ScoreQueue.Waiting {
  readonly done: Deferred.Deferred<ReadonlyArray<number>, Session.SessionError>
}

/** A scorer that serves its queue until the scope closes. */
export const make = Effect.fnUntraced(function* (
  checkpoint: Base,
  options: Options
): Effect.fn.Return<Scorer, never, Scope.Scope> {
  const { device = "cpu" } = checkpoint
  const scope = yield* Effect.scope
  const arrival = yield* Latch.make(false)
  const waiting = ScoreQueue.make<Job>(options.maxTokens)
  const waitFor = yield* Waiting.make
  // Most runs are large, so fp32 weights are not worth a second copy; those in 8 bits are small, and faster with one.
  const large = checkpoint.quantized === undefined && !ScoreProgram.isNarrow(checkpoint.config)
  const weights = large ? "mapped" : "resident"
  const rowsAtOnce = Math.max(16, Math.floor(logitBytes / (4 * checkpoint.config.vocabSize)))
  const sessions = new Map<string, Session.Session>()

  /** A graph's session, compiled once, when it is first asked for. */
  const compiling = yield* Semaphore.make(1)
  const compiled = (key: string, build: () => Graph.Graph, weights: "resident" | "mapped") =>
    Effect.gen(function* () {
      const known = sessions.get(key)
      if (known !== undefined) return known
      const session = yield* Session.make(build(), { folder: Program.weightsFolder, weights, device }).pipe(
        Effect.provideService(Scope.Scope, scope)
      )
      sessions.set(key, session)
      return session
    }).pipe(compiling.withPermit)

  /** log p of each target after its row of hidden states [N, width]. */
  const project = Effect.fnUntraced(function* (
    { adapter, temperature = 1 }: Pick<Request, "adapter" | "temperature">,
    hidden: Float32Array,
    targets: ReadonlyArray<number>
  ) {
    const own = adapter !== undefined && Adapters.projects(adapter) ? adapter : undefined
    const session = yield* compiled(
      `projection ${Adapters.key(own)}`,
      () => ScoreProgram.projection(checkpoint, own),
      "resident"
    )
    const width = checkpoint.config.hiddenSize
    const out = new Float32Array(targets.length)
    for (let from = 0; from < targets.length; from += rowsAtOnce) {
      const part = targets.slice(from, from + rowsAtOnce)
      let states = hidden.subarray(from * width, (from + part.length) * width)
      // The runtime multiplies a single row by another kernel than several, and nothing may depend on what is in a batch.
      if (part.length === 1) {
        part.push(part[0]!)
        states = Float32Array.from([...states, ...states])
      }
      const { out: logprobs } = yield* session.run({
        ...(own === undefined ? {} : Adapters.feeds(own)),
        hidden: Session.float32(states, [part.length, width]),
        temperature: Session.scalar(temperature),
        targets: Session.int64(part, [part.length])
      })
      out.set(Session.floats(logprobs!).subarray(0, targets.length - from), from)
    }
    return out
  })

  /** What a run gives to each of its requests. */
  const run = Effect.fnUntraced(function* (
    requests: ReadonlyArray<Request>,
    form: ScoreProgram.Form,
    tokens: Session.Feeds
  ) {
    const { adapter, kind } = requests[0]!
    const feeds = { ...tokens, ...(adapter === undefined ? {} : Adapters.feeds(adapter)) }
    const key = `${form} ${Adapters.key(adapter)}`
    let out: Float32Array
    if (kind === "logprobs") {
      const session = yield* compiled(`hidden ${key}`, () => ScoreProgram.hidden(checkpoint, adapter, form), weights)
      const { hidden } = yield* session.run(feeds)
      const targets = requests.flatMap((r) => r.targets)
      out = yield* project(requests[0]!, Session.floats(hidden!), targets)
    } else {
      const session = yield* compiled(`scalar ${key}`, () => ScoreProgram.scalar(checkpoint, adapter, form), weights)
      const results = yield* session.run({ ...feeds, head: head(adapter, kind, checkpoint) })
      out = Session.floats(results["out"]!)
    }
    let from = 0
    return requests.map(({ at }) => Array.from(out.subarray(from, (from += at.length))))
  })

  /** Jobs in a run, each a sequence. */
  const serve = Effect.fnUntraced(function* (jobs: ReadonlyArray<Job>) {
    const requests = jobs.map((j) => j.request)
    const rows = requests.map((r) => r.ids)
    const T = ScoreProgram.lengthOf(rows)
    const at = requests.flatMap((r, b) => r.at.map((t) => b * T + t))
    const results = yield* run(requests, ScoreProgram.formOf(rows[0]!), ScoreProgram.feeds(rows, at))
    for (const [i, job] of jobs.entries()) yield* Deferred.succeed(job.done, results[i]!)
  })

  /** Waits a moment for others; longer, up to a bound, while the cores are busy and the batch is not full. */
  const gather = Effect.gen(function* () {
    const started = performance.now()
    do {
      yield* Effect.sleep("1 millis")
    } while (
      options.busy?.() === true &&
      performance.now() - started < patience &&
      waiting.tokens() < options.maxTokens
    )
  })

  yield* Effect.forever(
    Effect.gen(function* () {
      yield* arrival.await
      yield* gather
      while (waiting.size() > 0) {
        const jobs = waiting.take(performance.now())
        // A bug is told to those who asked, too: they would wait for ever.
        yield* Effect.catchCause(serve(jobs), (cause) =>
          Effect.forEach(jobs, (job) => Deferred.failCause(job.done, cause), { discard: true })
        )
      }
      // In one step with the look at the queue, or a request could come between.
      yield* Effect.sync(() => waiting.size() === 0 && arrival.closeUnsafe())
    })
  ).pipe(Effect.forkIn(scope))

  return {
    score: (request) =>
      Effect.gen(function* () {
        if (request.at.length === 0) return []
        const done = yield* Deferred.make<ReadonlyArray<number>, Session.SessionError>()
        const job: Job = { request, done, since: performance.now() }
        waiting.add(job)
        yield* arrival.open
        // Who no longer waits for an answer gives up the place in the queue.
        return yield* waitFor(done).pipe(Effect.onInterrupt(() => Effect.sync(() => waiting.leave(job))))
      }),
    family: (requests) => {
      const rows = requests.map((r) => r.ids)
      const layout = Layout.make(rows, [rows.map((_, row) => row)])
      const at = requests.flatMap((r, row) => r.at.map((t) => layout.at(row, t)))
      if (at.length === 0) return Effect.succeed(requests.map(() => []))
      return run(requests, "family", { ...layout.feeds(), at: Session.int64(at, [at.length]) })
    }
  }
})

const head = (
  adapter: Adapters.Adapter | undefined,
  kind: "score" | "value",
  checkpoint: Checkpoint
): Session.Tensor => {
  const name = heads[kind]
  const weight = adapter === undefined ? undefined : Trainables.views(adapter.layout, adapter.vector).get(name)
  if (weight === undefined) throw new Error(`the adapter has no ${name}`)
  return Session.float32(weight, [1, checkpoint.config.hiddenSize])
}
