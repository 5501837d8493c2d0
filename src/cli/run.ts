/**
 * `charter run`: the whole method on the embedded sandbox, or on a model and prompts of the user's.
 */
import { Console, DateTime, Effect, Layer, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { join } from "node:path"
import * as Constitution from "../Constitution.ts"
import { Evaluator } from "../evaluation/Evaluator.ts"
import { Models } from "../Models.ts"
import * as ConstitutionalAi from "../recipes/ConstitutionalAi.ts"
import * as Manifest from "../recipes/Manifest.ts"
import * as Meter from "../recipes/Meter.ts"
import * as Run from "../recipes/Run.ts"
import * as Conclusion from "./Conclusion.ts"
import * as Plan from "./Plan.ts"
import * as Progress from "./Progress.ts"
import { fromInput } from "./UsageError.ts"
import { version } from "./Version.ts"

/** The models of a folder. The engine is loaded only here, so that a wrong argument is answered at once. */
const modelsIn = (dir: string) =>
  Layer.unwrap(
    Effect.map(
      Effect.promise(() => import("../providers/onnx/OnnxModels.ts")),
      (OnnxModels) => OnnxModels.layer({ dir })
    )
  )

const describe = (plan: Plan.Plan, models: Models["Service"], created: string): Manifest.Manifest => ({
  format: 1,
  charter: version,
  created,
  model: models.description,
  constitution: {
    source: plan.constitutionSource,
    hash: Manifest.hash(Schema.encodeSync(Constitution.Principles)(plan.constitution))
  },
  prompts: { source: plan.promptsSource, hash: Manifest.hash(plan.sets) },
  seed: plan.settings.seed,
  settings: plan.settings
})

/** Carries out a plan over the models in force, in the folder. */
export const execute = Effect.fn("charter run")(function* (plan: Plan.Plan, dir: string) {
  const models = yield* Models
  const meter = Meter.make()
  const created = DateTime.formatIso(yield* DateTime.now)
  const run = yield* Run.open({ dir, manifest: describe(plan, models, created), counter: meter })
  yield* Effect.forEach(
    plan.rejects,
    ({ file, line, reason }) => run.reject({ stage: "prompts", id: `${file}:${line}`, reason }),
    { discard: true }
  )
  return yield* ConstitutionalAi.run(plan.settings, plan.sets).pipe(
    Effect.provideService(Run.Run, run),
    Effect.provideService(Models, meter.models(models)),
    Effect.provideService(Constitution.Constitution, plan.constitution),
    Effect.provideService(Evaluator, plan.evaluator)
  )
}, Effect.scoped)

const flags = {
  sandbox: Flag.Boolean("sandbox").pipe(
    Flag.withDescription("Run on the small model and world that come with Charter"),
    Flag.withDefault(false)
  ),
  model: Flag.String("model").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("A Hugging Face model folder (config.json, tokenizer.json, model.safetensors)"),
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
      "Principles: YAML, JSON, the paper's files, or text with one a line; Charter's own if left out"
    ),
    Flag.optional
  ),
  out: Flag.String("out").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription("The folder of the run; the same command again goes on in it (default: runs/<name>)"),
    Flag.optional
  ),
  seed: Flag.Int("seed").pipe(Flag.withDescription("Where all random choices come from (default: 1)"), Flag.optional),
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
  Effect.fnUntraced(function* (input: Plan.Input) {
    const plan = yield* Plan.make(input)
    const dir = input.out._tag === "Some" ? input.out.value : join("runs", plan.name)
    // The folder of the model is an input: what is wrong with it is told before anything is written.
    const models = yield* Layer.build(modelsIn(plan.model)).pipe(Effect.mapError(fromInput))
    const summary = yield* execute(plan, dir).pipe(Effect.provide(models), Effect.provide(Progress.layer))
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
    }
  ])
)
