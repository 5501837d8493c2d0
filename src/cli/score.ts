/**
 * `charter score`: the log-probabilities of a file's rows under a model, or the rewards that a reward model gives them.
 *
 * The engine has a thread of its own, because ONNX Runtime blocks the one it runs on: here rows are read, encoded and
 * written meanwhile, and an interruption is heard at once.
 */
import { Effect, Option, Result } from "effect"
import { Command, Flag } from "effect/cli"
import * as ModelRows from "../data/ModelRows.ts"
import * as Lora from "../model/Lora.ts"
import * as RewardHead from "../model/RewardHead.ts"
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
  readonly json: boolean
}

/** What a command came to. */
interface Summary {
  readonly rows: number
  readonly rejected: number
  readonly tokens: number
  readonly seconds: number
  readonly tokens_per_second: number
  /** Of the tokens that were scored, nats; null with a reward model and where there is none. */
  readonly mean_logprob: number | null
}

/** Rows under way: enough of them that those of a batch are alike in length. */
const concurrency = 256

const taken: ReadonlyArray<ModelRows.Input["_tag"]> = ["text", "ids", "completion"]

/** Scores the rows of a file; gives the summary. */
export const execute = Effect.fn("charter score")(function* (given: Input) {
  yield* RowPlaces.check(given)
  const checkpoint = yield* Model.openAny(given.model)
  const whole = yield* Effect.mapError(RewardHead.isIn(checkpoint.dir), fromInput)
  if (whole && Option.isSome(given.adapter)) {
    return yield* new UsageError({ message: `${given.model} is a whole reward model by itself; leave out --adapter.` })
  }
  // Its head is read as an adapter that changes nothing else.
  const input = whole ? { ...given, adapter: Option.some(checkpoint.dir) } : given
  const open = (dir: string) =>
    whole ? Effect.mapError(Lora.read(dir, checkpoint.config), fromInput) : Model.adapter(dir, checkpoint)
  const adapter = Option.isNone(input.adapter) ? undefined : yield* open(input.adapter.value)
  const tokens = yield* Effect.mapError(TokenRows.make(checkpoint), fromInput)
  const rewards = adapter?.taskType === "SEQ_CLS"

  const { adapter: name, client } = yield* RowEngine.open(checkpoint, input, { head: rewards ? "score" : "none" })
  let [read, scored, sum] = [0, 0, 0]

  const score = Effect.fnUntraced(function* ({ id, input: row }: ModelRows.ModelRow) {
    const encoded = yield* Effect.result(tokens.whole(row, { ended: rewards }))
    if (Result.isFailure(encoded)) return Result.fail(encoded.failure)
    const { from, ids } = encoded.success
    const numbers = yield* (
      rewards
        ? Effect.map(client.Score({ ids, adapter: RowEngine.adapterName }), (reward) => [reward])
        : client.Logprobs({ ids, from, adapter: name })
    ).pipe(Effect.mapError(fromFailure))
    const strange = numbers.find((x) => !Number.isFinite(x))
    if (strange !== undefined) return Result.fail(`the model makes ${strange} of it`)
    read += ids.length
    if (rewards) return Result.succeed({ id, tokens: ids.length, reward: numbers[0]! })
    const logprob = numbers.reduce((a, b) => a + b, 0)
    scored += numbers.length
    sum += logprob
    return Result.succeed({ id, tokens: ids.length, token_logprobs: numbers, logprob })
  })

  const elapsed = yield* Elapsed.begin
  const rows = RowFile.read(input.in, ModelRows.decode(taken))
  const outcome = yield* RowFile.answer("score", input, rows, score, concurrency)
  const seconds = yield* elapsed
  const summary: Summary = {
    rows: outcome.rows,
    rejected: outcome.rejected,
    tokens: read,
    seconds,
    tokens_per_second: seconds === 0 ? 0 : read / seconds,
    mean_logprob: scored === 0 ? null : sum / scored
  }
  return { summary, outcome }
}, Effect.scoped)

/** The summary in words. */
export const words = ({ mean_logprob, rejected, rows, seconds, tokens, tokens_per_second }: Summary): string =>
  [
    `Scored ${rows - rejected} of ${count(rows, "row")}, ${count(tokens, "token")}, in ${Progress.duration(seconds)}`,
    ` (${Math.round(tokens_per_second)} tokens/s)`,
    mean_logprob === null ? "." : `; mean log-probability of a token ${mean_logprob.toFixed(4)}.`
  ].join("")

const flags = {
  model: Flag.String("model").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription(
      "A Hugging Face model folder or a name of the hub, or a whole reward model; rows of input_ids need no tokenizer"
    )
  ),
  adapter: Flag.String("adapter").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("A PEFT adapter for the model; with a reward model's, rows get a reward"),
    Flag.optional
  ),
  precision: RowEngine.precision,
  device: DeviceFlag.device,
  in: Flag.String("in").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("Rows of {text}, {input_ids}, {prompt, completion} or {messages}, JSONL; .gz too")
  ),
  out: Flag.String("out").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("Where the scores go, one row for each, in order; standard output if left out"),
    Flag.optional
  ),
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("The summary as JSON (on standard error where the scores have standard output)"),
    Flag.withDefault(false)
  )
}

/** `charter score`. */
export const command = Command.make(
  "score",
  flags,
  Effect.fnUntraced(function* (input: Input) {
    const { outcome, summary } = yield* execute(input).pipe(Effect.provide(Progress.layer))
    yield* RowFile.conclude(input, outcome, input.json ? JSON.stringify(summary) : words(summary))
  })
).pipe(
  Command.withDescription(
    "Log-probabilities of texts, of token ids or of completions under a model, or their rewards; bad rows go to FILE.rejected.jsonl and the exit code is then 3"
  ),
  Command.withExamples([
    {
      command: "charter score --model ./SmolLM2-135M-Instruct --in texts.jsonl --out scores.jsonl",
      description: "A row {id, tokens, token_logprobs, logprob} for each row"
    },
    {
      command: "charter score --model ./SmolLM2-135M-Instruct --adapter runs/first/reward/adapter --in answers.jsonl",
      description: "A row {id, tokens, reward} for each row, on standard output"
    }
  ])
)
