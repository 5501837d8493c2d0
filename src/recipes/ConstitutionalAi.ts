/**
 * ConstitutionalAi: the whole method, from prompts and principles to a harmless assistant (Bai et al. 2022).
 *
 * Every phase leaves its records in the run folder and finds them there when the run is started again.
 */
import { Effect } from "effect"
import { Evaluator } from "../evaluation/Evaluator.ts"
import * as Evaluation from "./Evaluation.ts"
import type { PromptSets } from "./PromptSets.ts"
import * as Recipe from "./Recipe.ts"
import * as Reinforcement from "./Reinforcement.ts"
import { Run } from "./Run.ts"
import type { Settings } from "./Settings.ts"
import * as Summary from "./Summary.ts"
import * as Supervised from "./Supervised.ts"

/**
 * Runs every phase that is not finished and writes `summary.json`.
 *
 * @example
 * const summary = yield* ConstitutionalAi.run(Settings.forPrompts({ harmful: 8, benign: 0 }), sets)
 */
export const run = Effect.fn("ConstitutionalAi.run")(function* (settings: Settings, sets: PromptSets) {
  const folder = yield* Run

  const supervised = yield* Supervised.run(settings, sets.supervised)
  const { reinforced, rewardModel, heldOut } = yield* Reinforcement.run(settings, sets.preferences, supervised)

  const results = yield* Evaluation.evaluate(settings, sets, { supervised, reinforced, rewardModel, heldOut })
  const { name } = yield* Evaluator
  const evaluated = { results, heldOut: sets.heldOut, prompts: sets.evaluation.length, evaluator: name }
  const summary = yield* Summary.make(evaluated)
  yield* folder.write("summary.json", summary)
  return summary
}, Recipe.provide)
