/**
 * `charter generate`: sampled continuations of a file's prompts, with their tokens and log-probabilities.
 *
 * What is drawn for a row comes from the seed and the row's id alone, so neither the other rows nor the batches that
 * they make change a byte of it.
 */
import { Effect, Option, Result } from "effect"
import { Command, Flag } from "effect/cli"
import * as Jsonl from "../data/Jsonl.ts"
import * as ModelRows from "../data/ModelRows.ts"
import * as Sampling from "../engine/Sampling.ts"
import * as Elapsed from "../recipes/Elapsed.ts"
import { fromFailure } from "./CommandError.ts"
import { count } from "./Count.ts"
import * as DeviceFlag from "./DeviceFlag.ts"
import * as Model from "./Model.ts"
import * as Progress from "./Progress.ts"
import * as RowEngine from "./RowEngine.ts"
import * as RowFile from "./RowFile.ts"
import * as RowPlaces from "./RowPlaces.ts"
import * as TokenRows from "./TokenRows.ts"
import { UsageError, fromInput } from "./UsageError.ts"

/** The arguments as they were given. */
export interface Input extends RowEngine.Input, RowPlaces.Places {
  readonly model: string
  readonly n: number
  readonly temperature: number
  readonly topK: Option.Option<number>
  readonly topP: Option.Option<number>
  readonly minP: Option.Option<number>
  readonly repetitionPenalty: Option.Option<number>
  readonly maxTokens: number
  readonly stop: ReadonlyArray<string>
  readonly seed: number
  /** Megabytes that keys and values may take. */
  readonly memory: number
  readonly json: boolean
}

/** What a command came to. */
interface Summary {
  readonly rows: number
  readonly rejected: number
  readonly completions: number
  /** Tokens that were sampled. */
  readonly tokens: number
  readonly seconds: number
  readonly tokens_per_second: number
}

/** Samples under way, more than the rows of a batch: one long answer holds back the order, not the work. */
const underWay = 512

/** Completions of a row: they are under way together, and none is written before the last is there. */
const mostCompletions = 10_000

const taken: ReadonlyArray<ModelRows.Input["_tag"]> = ["prompt", "ids"]

const optionsOf = (input: Input): Sampling.Options & { readonly maxTokens: number } => ({
  maxTokens: input.maxTokens,
  temperature: input.temperature,
  topK: Option.getOrUndefined(input.topK),
  topP: Option.getOrUndefined(input.topP),
  minP: Option.getOrUndefined(input.minP),
  repetitionPenalty: Option.getOrUndefined(input.repetitionPenalty)
})

/** Why a prompt has no place beside its completion, in JSON: a field of a message may be NaN in Parquet. */
const unkeptOf = (prompt: object): string | undefined => {
  try {
    Jsonl.stringify(prompt)
    return undefined
  } catch (error) {
    return `the prompt cannot be written beside its completion: ${error instanceof Error ? error.message : String(error)}`
  }
}

const check = Effect.fnUntraced(function* (input: Input, vocabSize: number) {
  const wrong = Sampling.problem(optionsOf(input), vocabSize)
  if (wrong !== undefined) return yield* new UsageError({ message: `Cannot sample: ${wrong}.` })
  const counts = [
    ["--n", input.n],
    ["--max-tokens", input.maxTokens],
    ["--memory", input.memory]
  ] as const
  for (const [flag, value] of counts) {
    if (value < 1) return yield* new UsageError({ message: `${flag} ${value} is below 1.` })
  }
  if (input.n > mostCompletions) {
    const message = `--n ${input.n} is above ${mostCompletions}; give the rows several times, with an id each.`
    return yield* new UsageError({ message })
  }
})

/** Continues the prompts of a file; gives the summary. */
export const execute = Effect.fn("charter generate")(function* (input: Input) {
  yield* RowPlaces.check(input)
  const checkpoint = yield* Model.open(input.model)
  yield* check(input, checkpoint.config.vocabSize)
  if (Option.isSome(input.adapter)) {
    const adapter = yield* Model.adapter(input.adapter.value, checkpoint)
    if (adapter.taskType === "SEQ_CLS") {
      const message = `${input.adapter.value} is a reward model, which writes nothing; use it with charter score.`
      return yield* new UsageError({ message })
    }
  }
  const rows = yield* Effect.mapError(TokenRows.make(checkpoint), fromInput)
  const { codec } = rows
  if (codec === undefined && input.stop.length > 0) {
    return yield* new UsageError({ message: `${input.model} has no tokenizer.json to find a --stop text with.` })
  }

  const stops =
    codec === undefined
      ? { stopIds: checkpoint.eosTokenIds, stopTexts: [] }
      : yield* Effect.mapError(codec.stops("--stop", input.stop), fromInput)

  const cacheMemory = input.memory * 2 ** 20
  const { adapter, client } = yield* RowEngine.open(checkpoint, input, { head: "none", cacheMemory })
  const request = {
    ...optionsOf(input),
    adapter,
    seed: input.seed,
    n: input.n,
    ...stops
  }
  let [completions, tokens] = [0, 0]

  const generate = Effect.fnUntraced(function* ({ id, input: row }: ModelRows.ModelRow) {
    const ids = yield* Effect.result(rows.prompt(row))
    if (Result.isFailure(ids)) return Result.fail(ids.failure)
    const prompt = row._tag === "prompt" ? ModelRows.asked(row) : { prompt: ids.success }
    const unkept = unkeptOf(prompt)
    if (unkept !== undefined) return Result.fail(unkept)
    const answer = yield* client.Generate({ ...request, id: String(id), ids: ids.success }).pipe(
      Effect.map(Result.succeed),
      // What the engine refuses is a matter of this row alone.
      Effect.catch((error) =>
        error._tag === "EngineError" && error.refused === true
          ? Effect.succeed(Result.fail(error.message))
          : Effect.fail(fromFailure(error))
      )
    )
    if (Result.isFailure(answer)) return Result.fail(answer.failure)
    const found = answer.success
    const strange = found.flatMap(({ logprobs }) => logprobs).find((x) => !Number.isFinite(x))
    if (strange !== undefined) return Result.fail(`the model makes ${strange} of it`)
    completions += found.length
    // What a text goes on with is to be put behind it; an answer is a text of its own.
    const isText = row._tag === "prompt" && typeof row.prompt === "string"
    return Result.succeed(
      found.map(({ finish, logprobs, tokenIds }, sample) => {
        const { count, stopped, text } =
          codec !== undefined && isText
            ? codec.continuation(ids.success, tokenIds, input.stop)
            : { count: tokenIds.length, stopped: false, text: codec?.answer(tokenIds, input.stop) ?? null }
        tokens += count
        return {
          id,
          ...(input.n === 1 ? {} : { sample }),
          ...prompt,
          completion: text,
          token_ids: tokenIds.slice(0, count),
          logprobs: logprobs.slice(0, count),
          finish: stopped ? "stop" : finish
        }
      })
    )
  })

  const elapsed = yield* Elapsed.begin
  const concurrency = Math.max(1, Math.ceil(underWay / input.n))
  const outcome = yield* RowFile.answer(
    "generate",
    input,
    RowFile.read(input.in, ModelRows.decode(taken)),
    generate,
    concurrency
  )
  const seconds = yield* elapsed
  const summary: Summary = {
    rows: outcome.rows,
    rejected: outcome.rejected,
    completions,
    tokens,
    seconds,
    tokens_per_second: seconds === 0 ? 0 : tokens / seconds
  }
  return { summary, outcome }
}, Effect.scoped)

const words = ({ completions, rejected, rows, seconds, tokens, tokens_per_second }: Summary): string =>
  [
    `Continued ${rows - rejected} of ${count(rows, "row")}, ${count(completions, "completion")} of ${count(tokens, "token")},`,
    ` in ${Progress.duration(seconds)} (${Math.round(tokens_per_second)} tokens/s).`
  ].join("")

const flags = {
  model: Flag.String("model").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("A Hugging Face model folder; rows of input_ids need no tokenizer in it")
  ),
  adapter: Flag.String("adapter").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("A PEFT adapter for the model"),
    Flag.optional
  ),
  precision: RowEngine.precision,
  device: DeviceFlag.device,
  in: Flag.String("in").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("Rows of {prompt}, as text or messages, or of {input_ids}, JSONL; .gz too")
  ),
  out: Flag.String("out").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("Where the completions go, in the order of the rows; standard output if left out"),
    Flag.optional
  ),
  n: Flag.Int("n").pipe(
    Flag.withDescription("Completions for each row, 10,000 at most; the prompt is read once (default: 1)"),
    Flag.withDefault(1)
  ),
  temperature: Flag.Finite("temperature").pipe(
    Flag.withDescription("Divides the logits; 0 takes the likeliest token each time (default: 1)"),
    Flag.withDefault(1)
  ),
  topK: Flag.Int("top-k").pipe(Flag.withDescription("Draw from the k likeliest tokens"), Flag.optional),
  topP: Flag.Finite("top-p").pipe(
    Flag.withDescription("Draw from the fewest of the likeliest tokens whose probabilities reach p"),
    Flag.optional
  ),
  minP: Flag.Finite("min-p").pipe(
    Flag.withDescription("Draw from tokens of at least this share of the likeliest one's probability"),
    Flag.optional
  ),
  repetitionPenalty: Flag.Finite("repetition-penalty").pipe(
    Flag.withDescription("Above 1, tokens of the prompt and of the completion so far get rarer"),
    Flag.optional
  ),
  maxTokens: Flag.Int("max-tokens").pipe(
    Flag.withDescription("Tokens of a completion at most (default: 128)"),
    Flag.withDefault(128)
  ),
  stop: Flag.String("stop").pipe(
    Flag.withMetavar("TEXT"),
    Flag.withDescription(
      "A completion ends before this text, besides the model's own end; may be given several times; one that begins with a dash as --stop=TEXT"
    ),
    Flag.atLeast(0)
  ),
  seed: Flag.Int("seed").pipe(
    Flag.withDescription("Where all random choices come from, with a row's id (default: 0)"),
    Flag.withDefault(0)
  ),
  memory: Flag.Int("memory").pipe(
    Flag.withMetavar("MB"),
    Flag.withDescription("What keys and values may take; rows wait for their place in it (default: 1024)"),
    Flag.withDefault(1024)
  ),
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("The summary as JSON (on standard error where the completions have standard output)"),
    Flag.withDefault(false)
  )
}

/** `charter generate`. */
export const command = Command.make(
  "generate",
  flags,
  Effect.fnUntraced(function* (input: Input) {
    const { outcome, summary } = yield* execute(input).pipe(Effect.provide(Progress.layer))
    yield* RowFile.conclude(input, outcome, input.json ? JSON.stringify(summary) : words(summary))
  })
).pipe(
  Command.withDescription(
    "Completions of prompts by a model, with their tokens and log-probabilities; bad rows go to FILE.rejected.jsonl and the exit code is then 3"
  ),
  Command.withExamples([
    {
      command: "charter generate --model ./SmolLM2-135M-Instruct --in prompts.jsonl --out completions.jsonl",
      description: "A row {id, prompt, completion, token_ids, logprobs, finish} for each row"
    },
    {
      command:
        "charter generate --model ./SmolLM2-135M-Instruct --in prompts.jsonl --n 4 --temperature 0.8 --top-p 0.95",
      description: "Four rows for each row, told apart by `sample`, on standard output"
    }
  ])
)
