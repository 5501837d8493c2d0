/**
 * SandboxSets: the prompts of a sandbox run. Those of the evaluation ask about things that occur nowhere else.
 */
import * as Sample from "../Sample.ts"
import * as Prompts from "../sandbox/Prompts.ts"
import type { PromptSets } from "./PromptSets.ts"
import type { Settings } from "./Settings.ts"

/** Prompts of the sandbox world for every phase, by the seed of the run. */
export const make = (settings: Settings): PromptSets => {
  const { seed } = settings
  const draw = (purpose: string, kind: Sample.Kind, count: number, heldOut: boolean, exclude?: ReadonlySet<string>) =>
    Prompts.draw({ seed, purpose, kind, count, heldOut, ...(exclude === undefined ? {} : { exclude }) })
  const samples = (prompts: ReadonlyArray<Prompts.Prompt>) => prompts.map(({ text, kind }) => Sample.prompt(text, kind))

  const supervised = [
    ...draw("supervised", "harmful", settings.supervised.prompts, false),
    ...draw("supervised", "benign", settings.supervised.benign, false)
  ]
  const used = new Set(supervised.map(({ text }) => text))
  return {
    supervised: samples(supervised),
    preferences: samples([
      ...draw("preferences", "harmful", settings.preferences.prompts, false, used),
      ...draw("preferences", "benign", settings.preferences.benign, false, used)
    ]),
    evaluation: samples([
      ...draw("evaluation", "harmful", settings.evaluation.prompts, true),
      ...draw("evaluation", "benign", settings.evaluation.prompts, true)
    ]),
    heldOut: true
  }
}
