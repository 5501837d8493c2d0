/**
 * A whole run over mocks: small prompts, a mock that becomes kinder with each revision.
 */
import { Effect, Exit, Layer } from "effect"
import * as Constitution from "../../src/Constitution.ts"
import { Evaluator, rewardOnly } from "../../src/evaluation/Evaluator.ts"
import { Models } from "../../src/Models.ts"
import * as ConstitutionalAi from "../../src/recipes/ConstitutionalAi.ts"
import * as Manifest from "../../src/recipes/Manifest.ts"
import * as Meter from "../../src/recipes/Meter.ts"
import * as PromptSets from "../../src/recipes/PromptSets.ts"
import * as Run from "../../src/recipes/Run.ts"
import * as Settings from "../../src/recipes/Settings.ts"
import * as Sample from "../../src/Sample.ts"
import { MockModels } from "../../src/testing/index.ts"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

export const temporary = () => mkdtempSync(join(tmpdir(), "charter-"))

export const prompts = [
  ...Array.from({ length: 6 }, (_, i) => Sample.prompt(`harmful question ${i}`)),
  ...Array.from({ length: 4 }, (_, i) => Sample.prompt(`benign question ${i}`, "benign"))
]

export const settings: Settings.Settings = {
  ...Settings.forPrompts({ harmful: 6, benign: 4 }),
  concurrency: 4
}

export const manifest: Manifest.Manifest = {
  format: 1,
  charter: "0.0.0",
  created: "2026-01-01T00:00:00Z",
  model: { name: "mock", family: "mock", parameters: 0, fingerprint: "mock" },
  constitution: { source: "shipped", hash: "1" },
  prompts: { source: "test", hash: "2" },
  seed: settings.seed,
  settings
}

/** Answers name the model and the request, so that no two are the same. */
export const models = () =>
  MockModels.make({
    base: { sample: ({ id }) => `base says ${id}`, choose: () => [-0.5, -1] },
    policy: (name) => ({ sample: ({ id, seed }) => `${name} says ${id} ${seed}` }),
    rewardModel: () => ({ score: ({ completion }) => completion.length })
  })

/** Runs the whole recipe in the folder. `also` runs beside it and ends it when it ends first. */
export const runIn = (
  dir: string,
  mock: MockModels.MockModels,
  options: {
    readonly settings?: Settings.Settings
    readonly prompts?: ReadonlyArray<Sample.Prompt>
    readonly service?: Models["Service"]
  } = {}
) => {
  const used = options.settings ?? settings
  const meter = Meter.make()
  return Effect.gen(function* () {
    const run = yield* Run.open({ dir, manifest: { ...manifest, settings: used, seed: used.seed }, counter: meter })
    const sets = PromptSets.fromPrompts(options.prompts ?? prompts, used)
    return yield* ConstitutionalAi.run(used, sets).pipe(Effect.provideService(Run.Run, run))
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Layer.mergeAll(
        Layer.succeed(Models, meter.models(options.service ?? mock.service)),
        Constitution.layerShipped,
        Layer.succeed(Evaluator, rewardOnly)
      )
    )
  )
}

export { Exit }
