/**
 * EngineRpc: what an engine can be asked, as one contract over any wire.
 *
 * Everything is in token ids: text is the affair of those who ask. The same handlers (`Engine.ts`) serve it in process,
 * in a worker thread and on another machine.
 */
import { Predicate, Schema, SchemaGetter } from "effect"
import { Rpc, RpcGroup } from "effect/rpc"
import { Transferable } from "effect/workers"
import { LearnOptions, SamplingOptions, UpdateOptions } from "../Policy.ts"
import type { ScoredRollout } from "../Policy.ts"

/** A failure of the engine; the same request may succeed later when it is `retryable`. */
export class EngineError extends Schema.TaggedError<EngineError>()("EngineError", {
  message: Schema.String,
  retryable: Schema.Boolean,
  /** Whether it is this one request that can never be carried out; others may. */
  refused: Schema.optionalKey(Schema.Boolean)
}) {}

/**
 * A list as one value. Tokens come by the million, and a schema that looks at each as a value of its own would keep the
 * asking thread from its other work.
 */
const listOf = <A>(isElement: (value: unknown) => value is A) =>
  Schema.declare((value): value is ReadonlyArray<A> => Array.isArray(value) && value.every(isElement), {
    toCodecJson: () =>
      Schema.link<ReadonlyArray<A>>()(Schema.Any, {
        decode: SchemaGetter.passthrough(),
        encode: SchemaGetter.passthrough()
      })
  })

const isId = (value: unknown): value is number => Number.isSafeInteger(value)
const isIds = (value: unknown): value is ReadonlyArray<number> => Array.isArray(value) && value.every(isId)
const isNumbers = (value: unknown): value is ReadonlyArray<number> =>
  Array.isArray(value) && value.every(Predicate.isNumber)

/** A list of records, field by field. */
const recordsOf = <A extends object>(fields: { readonly [K in keyof A]: (value: unknown) => value is A[K] }) =>
  listOf(
    (value): value is A =>
      Predicate.isObject(value) &&
      Object.entries(fields).every(([name, is]) => (is as Predicate.Predicate<unknown>)((value as never)[name]))
  )

const Ids = listOf(isId)
const Numbers = listOf(Predicate.isNumber)
const Names = listOf(Predicate.isString)

/** Numbers that a thread hands over to another one, where they were made for that; a wire that writes text copies them. */
const Integers = Schema.declare((value): value is Int32Array => value instanceof Int32Array, {
  toCodecJson: () =>
    Schema.link<Int32Array>()(Schema.Any, {
      // Of an array of numbers, JSON makes an object with its places as names.
      decode: SchemaGetter.transform((value) =>
        Predicate.isObject(value) ? Int32Array.from(Object.values(value)) : value
      ),
      encode: SchemaGetter.passthrough()
    })
}).pipe(
  Schema.decode({
    decode: SchemaGetter.passthrough(),
    encode: Transferable.getterAddAll((numbers) => [numbers.buffer as ArrayBuffer])
  })
)

/** The tokens of many rows, see `TokenLists.ts`. Their arrays are gone for who has sent them to another thread. */
const Lists = Schema.Struct({ chunks: Schema.Array(Integers), ends: Integers })

/** The base alone, or the name of an adapter over it. */
const AdapterName = Schema.NullOr(Schema.String)

/** What an adapter starts from. */
export const Source = Schema.Union([
  Schema.Struct({
    _tag: Schema.Literal("fresh"),
    rank: Schema.Int,
    alpha: Schema.Number,
    seed: Schema.Number
  }),
  Schema.Struct({ _tag: Schema.Literal("folder"), dir: Schema.String, seed: Schema.Number })
])

const Metrics = Schema.Record(Schema.String, Schema.Number)

/**
 * `n` sampled continuations of one prompt, which is read once. The first is the one that is drawn alone; each of the
 * others has its number as a key of its random numbers. A continuation ends with one of `stopIds`, or once its text has
 * one of `stopTexts` in it.
 */
const Generate = Rpc.make("Generate", {
  payload: {
    ...SamplingOptions.fields,
    id: Schema.String,
    ids: Ids,
    adapter: AdapterName,
    seed: Schema.Number,
    n: Schema.Int,
    stopIds: Ids,
    stopTexts: Schema.Array(Schema.String)
  },
  success: Schema.Array(
    Schema.Struct({
      tokenIds: Ids,
      /** Nats under the model, at temperature 1. */
      logprobs: Numbers,
      /** Nats under the distribution that the token was drawn from. */
      samplingLogprobs: Numbers,
      finish: Schema.Literals(["stop", "length"])
    })
  ),
  error: EngineError
})

/** The log-probabilities (nats) of the tokens from `from` on. */
const Logprobs = Rpc.make("Logprobs", {
  payload: { ids: Ids, from: Schema.Int, adapter: AdapterName },
  success: Numbers,
  error: EngineError
})

/** The summed log-probability (nats) of each option after the ids. */
const Choose = Rpc.make("Choose", {
  payload: { ids: Ids, options: Schema.Array(Ids), adapter: AdapterName },
  success: Numbers,
  error: EngineError
})

/** The score of a sequence, read on its last token. */
const Score = Rpc.make("Score", {
  payload: { ids: Ids, adapter: Schema.String },
  success: Schema.Number,
  error: EngineError
})

/** Makes an adapter under a name; with `reference` a frozen copy under that name too. */
const MakeAdapter = Rpc.make("MakeAdapter", {
  payload: {
    name: Schema.String,
    source: Source,
    head: Schema.Literals(["none", "score", "value"]),
    reference: AdapterName
  },
  error: EngineError
})

/** Writes an adapter as a PEFT folder. */
const SaveAdapter = Rpc.make("SaveAdapter", {
  payload: { name: Schema.String, dir: Schema.String },
  error: EngineError
})

/** Supervised fine-tuning on the tokens from `from` on of each row, by name; one element a step. */
const LearnSupervised = Rpc.make("LearnSupervised", {
  payload: {
    adapter: Schema.String,
    names: Names,
    rows: Lists,
    from: Ids,
    options: LearnOptions
  },
  success: Metrics,
  error: EngineError,
  stream: true
})

/** Bradley-Terry training on pairs, by name, with the probability that the first is the better; one element a step. */
const LearnPreferences = Rpc.make("LearnPreferences", {
  payload: {
    adapter: Schema.String,
    names: Names,
    first: Lists,
    second: Lists,
    probabilities: Numbers,
    options: LearnOptions
  },
  success: Metrics,
  error: EngineError,
  stream: true
})

/** One update of an adapter by proximal policy optimisation. */
const Update = Rpc.make("Update", {
  payload: {
    adapter: Schema.String,
    reference: Schema.String,
    rollouts: recordsOf<ScoredRollout>({
      id: Predicate.isString,
      promptIds: isIds,
      tokenIds: isIds,
      logprobs: isNumbers,
      reward: Predicate.isNumber
    }),
    options: UpdateOptions
  },
  success: Metrics,
  error: EngineError
})

/** Restores an adapter to the state of its last update; the number of updates done, 0 where none is. */
const Restore = Rpc.make("Restore", {
  payload: { adapter: Schema.String, stateDir: Schema.String },
  success: Schema.Int,
  error: EngineError
})

/** The engine's contract. */
export const EngineRpc = RpcGroup.make(
  Generate,
  Logprobs,
  Choose,
  Score,
  MakeAdapter,
  SaveAdapter,
  LearnSupervised,
  LearnPreferences,
  Update,
  Restore
)
