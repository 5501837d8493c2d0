/**
 * `charter run`: the whole method on the embedded sandbox, or on a model and prompts of the user's.
 */
import { Console, Effect, Layer } from "effect"
import { Command, Flag } from "effect/cli"
import { join } from "node:path"
import * as Constitution from "../Constitution.ts"
import { Evaluator } from "../evaluation/Evaluator.ts"
import { Models } from "../Models.ts"
import * as AnswerCache from "../providers/http/AnswerCache.ts"
import * as Budget from "../providers/http/Budget.ts"
import * as Usage from "../providers/http/Usage.ts"
import * as ConstitutionalAi from "../recipes/ConstitutionalAi.ts"
import * as Feedback from "../recipes/Feedback.ts"
import * as Manifest from "../recipes/Manifest.ts"
import * as Meter from "../recipes/Meter.ts"
import * as Run from "../recipes/Run.ts"
import * as Transcript from "../Transcript.ts"
import * as Answers from "./Answers.ts"
import * as Conclusion from "./Conclusion.ts"
import * as DeviceFlag from "./DeviceFlag.ts"
import * as Forecast from "./Forecast.ts"
import * as Hosted from "./Hosted.ts"
import * as Model from "./Model.ts"
import * as Native from "./Native.ts"
import * as Plan from "./Plan.ts"
import * as Progress from "./Progress.ts"
import { fromInput } from "./UsageError.ts"
import { version } from "./Version.ts"

/** The models of a folder. */
const modelsIn = (dir: string, device: "cpu" | "cuda") =>
  Layer.unwrap(
    Effect.gen(function* () {
      const found = yield* Model.locate(dir)
      yield* Model.open(found.dir)
      const Device = yield* Native.load(() => import("../onnx/Device.ts"))
      yield* Device.check(device)
      const OnnxModels = yield* Native.load(() => import("../providers/onnx/OnnxModels.ts"))
      return OnnxModels.layer({ dir: found.dir, device })
    })
  )

/**
 * What a run with hosted models is carried out in: the answers that its folder holds, the budget, and the accounts. Says
 * before it begins about how much will be asked.
 */
const accountsOf = Effect.fnUntraced(function* (plan: Plan.Plan, dir: string, transcript: Transcript.Transcript) {
  const { hosted, settings, sets, constitution } = plan
  if (hosted.judge === undefined && hosted.critic === undefined) return <A, E, R>(self: Effect.Effect<A, E, R>) => self
  const { cache, usage, spent } = yield* Answers.open(dir)
  const forecast = yield* Forecast.of(hosted, settings, sets).pipe(
    Effect.provideService(Constitution.Constitution, constitution),
    Effect.provideService(Transcript.Transcript, transcript)
  )
  yield* Console.error(Forecast.words(forecast, spent, settings))
  const budget = yield* Layer.build(Budget.layer({ ...Hosted.budgetOf(settings), spent }))
  return <A, E, R>(self: Effect.Effect<A, E, R>) =>
    self.pipe(
      Effect.provideService(AnswerCache.AnswerCache, cache),
      Effect.provideService(Usage.Usage, usage),
      Effect.provide(budget)
    )
})

/** Carries out a plan over the models in force, in the folder. */
export const execute = Effect.fn("charter run")(function* (plan: Plan.Plan, dir: string) {
  const models = yield* Models
  const meter = Meter.make()
  const manifest = Manifest.make({
    ...plan,
    charter: version,
    model: models.description,
    transcript: Transcript.forModel(models),
    feedback: yield* Feedback.names,
    evaluator: plan.evaluator.name
  })
  const rejected = plan.rejects.map(({ file, line, reason }) => ({ stage: "prompts", id: `${file}:${line}`, reason }))
  const run = yield* Run.open({ dir, manifest, counter: meter, rejected })
  const accounts = yield* accountsOf(plan, dir, Transcript.forModel(models))
  if (run.notice !== undefined) yield* Console.error(run.notice)
  return yield* ConstitutionalAi.run(plan.settings, plan.sets).pipe(
    Effect.provideService(Run.Run, run),
    Effect.provideService(Models, meter.models(models)),
    Effect.provideService(Constitution.Constitution, plan.constitution),
    Effect.provideService(Evaluator, plan.evaluator),
    accounts
  )
}, Effect.scoped)

const flags = {
  sandbox: Flag.Boolean("sandbox").pipe(
    Flag.withDescription("Run on the small model and world that come with Charter"),
    Flag.withDefault(false)
  ),
  model: Flag.String("model").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("A Hugging Face model folder, or a name of the hub such as owner/name"),
    Flag.optional
  ),
  prompts: Flag.String("prompts").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("Prompts: JSONL with `prompt`, hh-rlhf JSONL, or text with one a line; .gz too"),
    Flag.optional
  ),
  constitution: Flag.String("constitution").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription(
      "Principles: YAML, JSON, the paper's files, or text with one a line; .gz too; Charter's own if left out"
    ),
    Flag.optional
  ),
  out: Flag.String("out").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("The folder of the run; the same command again goes on in it (default: runs/<name>)"),
    Flag.optional
  ),
  judge: Flag.String("judge").pipe(
    Flag.withMetavar("KIND:MODEL"),
    Flag.withDescription(
      "A hosted judge in place of the model: openai:MODEL or anthropic:MODEL, @URL for your own server"
    ),
    Flag.optional
  ),
  critic: Flag.String("critic").pipe(
    Flag.withMetavar("KIND:MODEL"),
    Flag.withDescription("A hosted model that criticises and rewrites, named in the same way"),
    Flag.optional
  ),
  budget: Flag.String("budget").pipe(
    Flag.withMetavar("tokens=N"),
    Flag.withDescription(
      "What hosted models may take over all starts, as tokens=N or dollars=N; the run stops before more"
    ),
    Flag.optional
  ),
  seed: Flag.Int("seed").pipe(Flag.withDescription("Where all random choices come from (default: 1)"), Flag.optional),
  device: DeviceFlag.device,
  set: Flag.String("set").pipe(
    Flag.withMetavar("path=value"),
    Flag.withDescription("A setting, such as supervised.rounds=2; may be given several times"),
    Flag.atLeast(0)
  )
}

/** `charter run`. */
export const command = Command.make(
  "run",
  flags,
  Effect.fnUntraced(function* (input: Plan.Input & { readonly device: "cpu" | "cuda" }) {
    const plan = yield* Plan.make(input)
    const dir = input.out._tag === "Some" ? input.out.value : join("runs", plan.name)
    // Keys, addresses and the folder of the model are inputs: what is wrong with them is told before anything is written.
    const hosted = yield* Layer.build(Hosted.layer(plan.hosted, plan.settings))
    const models = yield* Layer.build(modelsIn(plan.model, input.device)).pipe(Effect.mapError(fromInput))
    const summary = yield* execute(plan, dir).pipe(
      Effect.provide(hosted),
      Effect.provide(models),
      Effect.provide(Progress.layer)
    )
    yield* Console.log(Conclusion.words(summary, dir))
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Make a model harmless by its own judgement: revise, fine-tune, compare, reinforce, evaluate"
  ),
  Command.withExamples([
    { command: "charter run --sandbox", description: "The whole method on the embedded model, in about three minutes" },
    {
      command: "charter run --model ./SmolLM2-135M-Instruct --prompts prompts.jsonl --out runs/first",
      description: "On a model and prompts of your own; the same command again resumes"
    },
    {
      command: "charter run --sandbox --judge openai:Qwen/Qwen3-8B@http://localhost:8000/v1 --budget tokens=2000000",
      description: "With a judge on a server; keys are read from OPENAI_API_KEY and ANTHROPIC_API_KEY"
    }
  ])
)
