/**
 * Plan: everything that a run needs, read and checked before anything is written.
 */
import { Effect, Option, Result, Stream } from "effect"
import { basename, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import * as Constitution from "../Constitution.ts"
import type { Reject } from "../data/DataError.ts"
import * as Prompts from "../data/Prompts.ts"
import { type Evaluator, rewardOnly } from "../evaluation/Evaluator.ts"
import * as Overrides from "../recipes/Overrides.ts"
import * as PromptSets from "../recipes/PromptSets.ts"
import * as SandboxSets from "../recipes/SandboxSets.ts"
import * as Settings from "../recipes/Settings.ts"
import type * as Sample from "../Sample.ts"
import * as SandboxPrompts from "../sandbox/Prompts.ts"
import * as SandboxEvaluation from "../sandbox/SandboxEvaluation.ts"
import * as Hosted from "./Hosted.ts"
import { UsageError, fromInput } from "./UsageError.ts"

/** What a run is made of, once everything that was given has been read. */
export interface Plan {
  /** Names the default folder of the run. */
  readonly name: string
  /** The folder of the model. */
  readonly model: string
  readonly constitution: Constitution.Principles
  readonly constitutionSource: string
  readonly promptsSource: string
  readonly settings: Settings.Settings
  readonly sets: PromptSets.PromptSets
  readonly rejects: ReadonlyArray<Reject>
  readonly evaluator: Evaluator["Service"]
  /** The models in place of the base. */
  readonly hosted: Hosted.Hosted
}

/** The arguments as they were given. */
export interface Input {
  readonly sandbox: boolean
  readonly model: Option.Option<string>
  readonly prompts: Option.Option<string>
  readonly constitution: Option.Option<string>
  readonly out: Option.Option<string>
  readonly seed: Option.Option<number>
  readonly set: ReadonlyArray<string>
  readonly judge: Option.Option<string>
  readonly critic: Option.Option<string>
  readonly budget: Option.Option<string>
}

const asset = (path: string) => fileURLToPath(new URL(`../../assets/${path}`, import.meta.url))

const usage = (message: string) => new UsageError({ message })

const overridesOf = ({ set, seed, budget }: Input) => {
  if (Option.isSome(budget) && !/^(tokens|dollars)=/.test(budget.value)) {
    return Effect.fail(usage(`--budget needs tokens=N or dollars=N, and "${budget.value}" is neither.`))
  }
  const flags = [
    ...(Option.isSome(seed) ? [`seed=${seed.value}`] : []),
    ...(Option.isSome(budget) ? [`budget.${budget.value}`] : [])
  ]
  return Effect.mapError(Effect.fromResult(Overrides.parse([...set, ...flags])), usage)
}

/** The hosted models that were named, with the budget that they have. */
const hostedOf = Effect.fnUntraced(function* (input: Input, { budget }: Settings.Settings) {
  const named = (flag: string, text: Option.Option<string>) =>
    Option.isNone(text)
      ? Effect.succeed(undefined)
      : Effect.mapError(Effect.fromResult(Hosted.parse(flag, text.value)), usage)
  const hosted = {
    judge: yield* named("--judge", input.judge),
    critic: yield* named("--critic", input.critic)
  }
  if (hosted.judge === undefined && hosted.critic === undefined && (budget.tokens > 0 || budget.dollars > 0)) {
    return yield* usage("A budget is for hosted models, and none was named; use --judge or --critic, or leave it out.")
  }
  if (budget.dollars > 0 && budget.inputPrice === 0 && budget.outputPrice === 0) {
    return yield* usage(
      "A budget in dollars needs the prices of a million tokens; use --set budget.inputPrice=3 --set budget.outputPrice=15."
    )
  }
  return hosted
})

const sandboxSets = (settings: Settings.Settings): Effect.Effect<PromptSets.PromptSets, UsageError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(SandboxSets.make(settings))
    } catch (error) {
      return error instanceof SandboxPrompts.TooFew ? Effect.fail(fromInput(error)) : Effect.die(error)
    }
  })

const sandboxPlan = Effect.fnUntraced(function* (input: Input, overrides: Overrides.Overrides) {
  const own = [
    ["--prompts", input.prompts],
    ["--constitution", input.constitution],
    ["--model", input.model]
  ] as const
  const other = own.find(([, value]) => Option.isSome(value))
  if (other !== undefined) {
    return yield* usage(
      `The sandbox brings its own model, prompts and constitution; leave out ${other[0]} or --sandbox.`
    )
  }
  const limit = overrides.get("data.limit")
  const settings = Overrides.apply(Settings.sandbox(typeof limit === "number" ? limit : 0), overrides)
  const file = asset("sandbox/constitution.yaml")
  return {
    name: "sandbox",
    model: asset("sandbox"),
    constitution: yield* loadConstitution(file),
    constitutionSource: "the sandbox",
    promptsSource: "the sandbox",
    settings,
    sets: yield* sandboxSets(settings),
    rejects: [],
    evaluator: SandboxEvaluation.evaluator,
    hosted: yield* hostedOf(input, settings)
  } satisfies Plan
})

const loadConstitution = (path: string) => Constitution.load(path).pipe(Effect.mapError(fromInput))

const userPlan = Effect.fnUntraced(function* (input: Input, overrides: Overrides.Overrides) {
  if (Option.isNone(input.model)) {
    return yield* usage("No model was given; use --sandbox for the embedded one, or --model DIR with --prompts FILE.")
  }
  if (Option.isNone(input.prompts)) {
    return yield* usage("No prompts were given; use --prompts FILE with one prompt a line, as text or as JSONL.")
  }
  const file = input.prompts.value
  const limit = overrides.get("data.limit")
  const rows = yield* Prompts.read(file, { limit: typeof limit === "number" && limit > 0 ? limit : undefined }).pipe(
    Stream.runCollect,
    Effect.mapError(fromInput)
  )
  const prompts = rows.flatMap((row): ReadonlyArray<Sample.Prompt> => (Result.isSuccess(row) ? [row.success] : []))
  const rejects = rows.flatMap((row): ReadonlyArray<Reject> => (Result.isFailure(row) ? [row.failure] : []))
  if (prompts.length === 0) {
    const first = rejects[0]!
    return yield* usage(`${file} has no prompt that can be used; its line ${first.line} is ${first.reason}.`)
  }
  const harmful = prompts.filter(({ kind }) => kind === "harmful").length
  const settings = Overrides.apply(Settings.forPrompts({ harmful, benign: prompts.length - harmful }), overrides)
  const constitution = Option.getOrElse(input.constitution, () => asset("constitution.yaml"))
  return {
    name: basename(resolve(input.model.value)),
    model: input.model.value,
    constitution: yield* loadConstitution(constitution),
    constitutionSource: Option.getOrElse(input.constitution, () => "Charter"),
    promptsSource: file,
    settings,
    sets: PromptSets.fromPrompts(prompts, settings),
    rejects,
    evaluator: rewardOnly,
    hosted: yield* hostedOf(input, settings)
  } satisfies Plan
})

/** The plan for the arguments, or what is wrong with them. */
export const make = Effect.fnUntraced(function* (input: Input) {
  const names = ["model", "prompts", "constitution", "out"] as const
  const empty = names.find((name) => Option.contains(input[name], ""))
  if (empty !== undefined) return yield* usage(`--${empty} is an empty name; give one, or leave --${empty} out.`)
  const overrides = yield* overridesOf(input)
  const plan = input.sandbox ? yield* sandboxPlan(input, overrides) : yield* userPlan(input, overrides)
  const without = (["supervised", "preferences"] as const).find((phase) => plan.sets[phase].length === 0)
  if (without === undefined) return plan
  return yield* usage(
    `No prompt is left for the phase ${without}: ${without}.prompts and ${without}.benign say how many harmful and benign ones it takes, and prompts with the words of the evaluation's are kept out of it.`
  )
})
