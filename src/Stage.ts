/**
 * Stage: a function from a stream of samples to a stream of samples.
 *
 * Stages compose because a stage's output is the next one's input; a wrong order is a type error. A failed sample is a
 * value: where a sink is given ({@link rejectTo}) it is handed over with its reason and the stream goes on; where none
 * is given the stream fails with it.
 *
 * @example
 * prompts.pipe(Response.stage(), Critique.stage().pipe(Stage.provide(otherModel)), Revision.stage())
 */
import { Cause, Channel, Context, Effect, Formatter, Layer, Pipeable, Predicate, Schema, Stream } from "effect"
import * as Journal from "./Journal.ts"
import * as Positive from "./Positive.ts"

export { JournalError } from "./Journal.ts"

/** From a stream of `A` to a stream of `B`, failing with `E`, needing `R`. */
export interface Stage<A, B, E = never, R = never> extends Pipeable.Pipeable {
  <E0, R0>(self: Stream.Stream<A, E0, R0>): Stream.Stream<B, E | E0, R | R0>
}

/** A sample that a stage could not use. */
export class Rejected extends Schema.Class<Rejected>("charter/Rejected")({
  /** The id of the sample that went into the stage. */
  id: Schema.String,
  /** The name of the stage. */
  stage: Schema.String,
  /** The tag of the typed failure and what it says. */
  reason: Schema.Struct({ tag: Schema.String, message: Schema.String }),
  /** The sample that went into the stage, as plain JSON. */
  sample: Schema.Json
}) {}

/** Where rejected samples go. A sink that fails ends the stream, for instance when a budget of failures is spent. */
export type Sink<E = never, R = never> = (rejected: Rejected) => Effect.Effect<void, E, R>

/** The sink in force, if there is one; see {@link rejectTo}. Its failure type is carried by the type of the stage. */
export const Rejects: Context.Reference<Sink<unknown> | undefined> = Context.Reference<Sink<unknown> | undefined>(
  "charter/Rejects",
  { defaultValue: () => undefined }
)

/** Is told of each rejection, whatever sink takes it. */
const OnReject: Context.Reference<() => void> = Context.Reference<() => void>("charter/OnReject", {
  defaultValue: () => () => {}
})

/** How a stage runs. */
export interface Options {
  /** How many samples are worked on at a time; 16 if not given. */
  readonly concurrency?: number | "unbounded" | undefined
  /** Whether results keep the order of the samples; true if not given. */
  readonly ordered?: boolean | undefined
  /** A sink for this stage, before any that is in force around it. */
  readonly rejectTo?: Sink | undefined
}

/** A function on streams as a stage. */
export const from = <A, B, E = never, R = never>(
  f: <E0, R0>(self: Stream.Stream<A, E0, R0>) => Stream.Stream<B, E | E0, R | R0>
): Stage<A, B, E, R> =>
  Object.assign(<E0, R0>(self: Stream.Stream<A, E0, R0>) => f(self), {
    pipe() {
      return Pipeable.pipeArguments(this, arguments)
    }
  }) as Stage<A, B, E, R>

/** The span of one sample in a stage. Where the stage was called from says little, and finding it out takes time. */
export const span =
  (name: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withSpan(self, name, { captureStackTrace: false }) as Effect.Effect<A, E, R>

/** A stage that makes one sample of each. */
export const make = <A extends { readonly id: string }, B, E, R>(
  name: string,
  f: (sample: A) => Effect.Effect<B, E, R>,
  options: Options = {}
): Stage<A, B, E, R> =>
  each(
    (sample: A) =>
      Effect.matchEffect(f(sample), {
        onSuccess: (b) => Effect.succeed([b]),
        onFailure: (error) => Effect.as(reject(name, sample, error, options.rejectTo), [])
      }),
    options
  )

/**
 * A stage that makes several samples of each. When one sample fails on the way, what was made of it before is kept.
 */
export const expand = <A extends { readonly id: string }, B, E, R>(
  name: string,
  f: (sample: A) => Stream.Stream<B, E, R>,
  options: Options = {}
): Stage<A, B, E, R> =>
  each((sample: A) => {
    const made: Array<B> = []
    return Stream.runForEach(f(sample), (b) => Effect.sync(() => made.push(b))).pipe(
      Effect.catch((error) => reject(name, sample, error, options.rejectTo)),
      Effect.as(made)
    )
  }, options)

const each = <A, B, E, R>(
  work: (sample: A) => Effect.Effect<ReadonlyArray<B>, E, R>,
  options: Pick<Options, "concurrency" | "ordered">
): Stage<A, B, E, R> => {
  const concurrency = Positive.concurrency(options.concurrency ?? 16)
  return from((self) =>
    self.pipe(Stream.mapEffect(work, { concurrency, unordered: options.ordered === false }), Stream.flattenIterable)
  )
}

const reject = <A extends { readonly id: string }, E>(
  stage: string,
  sample: A,
  error: E,
  own: Sink | undefined
): Effect.Effect<void, E> =>
  Effect.gen(function* () {
    const sink = own ?? (yield* Rejects)
    if (sink === undefined) return yield* Effect.fail(error)
    const onReject = yield* OnReject
    onReject()
    const rejected = new Rejected({
      id: sample.id,
      stage,
      reason: reasonOf(error),
      sample: JSON.parse(Formatter.formatJson(sample)) as Schema.Json
    })
    // `rejectTo` has put the sink's failure type into the type of the stage.
    return yield* sink(rejected) as Effect.Effect<void, E>
  })

/** A failure in words, whatever failed; the reason nested in it (as `AiError` has one) says more than its own tag. */
export const reasonOf = (error: unknown): Rejected["reason"] => {
  const nested = Predicate.hasProperty(error, "reason") && Predicate.hasProperty(error.reason, "_tag")
  const tagged = nested ? error.reason : error
  const tag = Predicate.hasProperty(tagged, "_tag") ? String(tagged._tag) : "Error"
  return { tag, message: error instanceof Error ? error.message : Cause.prettyErrors(Cause.fail(error))[0]!.message }
}

/** One stage after the other, as a stage. */
export const compose =
  <B, C, E1, R1>(next: Stage<B, C, E1, R1>) =>
  <A, E, R>(self: Stage<A, B, E, R>): Stage<A, C, E | E1, R | R1> =>
    from((stream) => next(self(stream)))

/** Does something with each result, which passes on unchanged; a failure there ends the stream. */
export const tap =
  <B, E1, R1>(f: (sample: NoInfer<B>) => Effect.Effect<unknown, E1, R1>) =>
  <A, E, R>(self: Stage<A, B, E, R>): Stage<A, B, E | E1, R | R1> =>
    from((stream) => self(stream).pipe(Stream.tap(f)))

/** Gives a stage its own services, such as another model. What comes before it in the stream is not touched. */
export const provide =
  <Out, E1, In>(layer: Layer.Layer<Out, E1, In>) =>
  <A, B, E, R>(self: Stage<A, B, E, R>): Stage<A, B, E | E1, In | Exclude<R, Out>> =>
    inside(self, (stream) => Stream.provide(stream, layer) as Stream.Stream<B, any, any>)

/** Sends the failed samples of a stage, or of the stages composed in it, to a sink; the stream goes on. */
export const rejectTo =
  <E1, R1>(sink: Sink<E1, R1>) =>
  <A, B, E, R>(self: Stage<A, B, E, R>): Stage<A, B, E | E1, R | R1> =>
    inside(self, (stream) =>
      Stream.unwrap(
        Effect.map(Effect.context<R1>(), (context) =>
          Stream.provideService(stream, Rejects, (rejected) => Effect.provideContext(sink(rejected), context))
        )
      )
    )

/** How a stage is kept in a file. */
export interface CheckpointOptions<A, B, I> extends Pick<Options, "concurrency" | "ordered"> {
  /** A JSONL file of its own, with a line for each sample. */
  readonly file: string
  /** The record that the stage makes, such as `Sample.Revision`. */
  readonly schema: Schema.Codec<B, I>
  /** What a sample is found again by; its id if not given. What was made under other settings needs another key or file. */
  readonly key?: ((sample: A) => string) | undefined
}

/**
 * Keeps what a stage makes in a file. On the next start the stage is not asked again for samples that are in it: their
 * records are replayed, in the order of the samples. A sample of which something was rejected is not written down, so
 * the next start tries it again.
 *
 * The stage works on each sample for itself, `concurrency` of them at a time: give it its models with {@link provide}
 * after this and not before, or they are made anew for each sample.
 *
 * @example
 * Critique.stage().pipe(Stage.checkpoint({ file: "critiques.jsonl", schema: Sample.Critique }), Stage.provide(critic))
 */
export const checkpoint =
  <A extends { readonly id: string }, B, I>(options: CheckpointOptions<A, B, I>) =>
  <E, R>(self: Stage<A, B, E, R>): Stage<A, B, E | Journal.JournalError, R> =>
    from((samples) =>
      Stream.unwrap(
        Effect.map(Journal.open(options.file, options.schema), (journal) => {
          const work = Effect.fnUntraced(function* (sample: A) {
            const key = options.key?.(sample) ?? sample.id
            const before = yield* journal.get(key)
            if (before !== undefined) return before
            let whole = true
            const outer = yield* OnReject
            const made = yield* Stream.runCollect(self(Stream.succeed(sample))).pipe(
              Effect.provideService(OnReject, () => {
                whole = false
                outer()
              })
            )
            if (whole) yield* journal.append(key, made)
            return made
          })
          return samples.pipe(each(work, options))
        })
      )
    )

/**
 * A stage run in changed surroundings. The stream before it is part of the stream that it makes, so its own
 * surroundings are given back to it.
 */
const inside = <A, B, B2, E, E2, R, R2>(
  self: Stage<A, B, E, R>,
  change: (stream: Stream.Stream<B, any, any>) => Stream.Stream<B2, any, any>
): Stage<A, B2, E2, R2> =>
  from(
    <E0, R0>(stream: Stream.Stream<A, E0, R0>) =>
      Stream.unwrap(Effect.map(Effect.context<R0>(), (outer) => change(self(within(stream, outer))))) as Stream.Stream<
        B2,
        E2 | E0,
        R2 | R0
      >
  )

/**
 * A stream that sees exactly the given services. `Stream.provideContext` would add them to those around it, and a
 * reference that is set around it but not in them would come through.
 */
const within = <A, E, R>(stream: Stream.Stream<A, E, R>, context: Context.Context<R>): Stream.Stream<A, E> => {
  const exactly = <B, F>(effect: Effect.Effect<B, F, any>): Effect.Effect<B, F> =>
    Effect.updateContext(effect, (): Context.Context<any> => context)
  return Stream.fromChannel(
    Channel.fromTransform((upstream, scope) =>
      Channel.toTransform(Stream.toChannel(stream))(upstream, scope).pipe(Effect.map(exactly), exactly)
    )
  )
}
