/**
 * A whole run over mocks: small prompts, a mock that becomes kinder with each revision.
 */
import { Effect } from "effect"
import * as Constitution from "../../src/Constitution.ts"
import { Evaluator, rewardOnly } from "../../src/evaluation/Evaluator.ts"
import { Models } from "../../src/Models.ts"
import * as ConstitutionalAi from "../../src/recipes/ConstitutionalAi.ts"
import * as Feedback from "../../src/recipes/Feedback.ts"
import * as Manifest from "../../src/recipes/Manifest.ts"
import * as Meter from "../../src/recipes/Meter.ts"
import * as PromptSets from "../../src/recipes/PromptSets.ts"
import * as Run from "../../src/recipes/Run.ts"
import * as Settings from "../../src/recipes/Settings.ts"
import * as Sample from "../../src/Sample.ts"
import * as Transcript from "../../src/Transcript.ts"
import { MockModels } from "../../src/testing/index.ts"

export const prompts = [
  ...Array.from({ length: 6 }, (_, i) => Sample.prompt(`harmful question ${i}`)),
  ...Array.from({ length: 4 }, (_, i) => Sample.prompt(`benign question ${i}`, "benign"))
]

export const settings: Settings.Settings = {
  ...Settings.forPrompts({ harmful: 6, benign: 4 }),
  concurrency: 4
}

/** Answers name the model and the request, so that no two are the same. */
export const models = () =>
  MockModels.make({
    base: { sample: ({ id }) => `base says ${id}`, choose: () => [-0.5, -1] },
    policy: (name) => ({ sample: ({ id, seed }) => `${name} says ${id} ${seed}` }),
    rewardModel: () => ({ score: ({ completion }) => completion.length })
  })

export interface Options {
  readonly settings?: Settings.Settings
  readonly prompts?: ReadonlyArray<Sample.Prompt>
  readonly service?: Models["Service"]
  /** Rows of the input that could not be used, by their place. */
  readonly rejected?: ReadonlyArray<string>
}

/** Runs the whole recipe in the folder. */
export const runIn = Effect.fnUntraced(function* (dir: string, mock: MockModels.MockModels, options: Options = {}) {
  const used = options.settings ?? settings
  const meter = Meter.make()
  const models = options.service ?? mock.service
  const sets = PromptSets.fromPrompts(options.prompts ?? prompts, used)
  const constitution = yield* Constitution.shipped
  const manifest = Manifest.make({
    charter: "0.0.0",
    model: models.description,
    transcript: Transcript.forModel(models),
    constitution,
    constitutionSource: "Charter",
    sets,
    promptsSource: "test",
    feedback: yield* Feedback.names,
    evaluator: rewardOnly.name,
    settings: used
  })
  const rejected = (options.rejected ?? []).map((id) => ({ stage: "prompts", id, reason: "it is no prompt" }))
  const run = yield* Run.open({ dir, manifest, counter: meter, rejected })
  const summary = yield* ConstitutionalAi.run(used, sets).pipe(
    Effect.provideService(Run.Run, run),
    Effect.provideService(Models, meter.models(models)),
    Effect.provideService(Constitution.Constitution, constitution),
    Effect.provideService(Evaluator, rewardOnly)
  )
  return { ...summary, notice: run.notice, timings: run.timings() }
}, Effect.scoped)
