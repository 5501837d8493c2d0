/**
 * ConstitutionalAi: the whole method, from prompts and principles to a harmless assistant (Bai et al. 2022).
 *
 * Every phase leaves its records in the run folder and finds them there when the run is started again.
 */
import { Effect, Option } from "effect"
import { Evaluator } from "../evaluation/Evaluator.ts"
import { Models } from "../Models.ts"
import * as Budget from "../providers/http/Budget.ts"
import { Transcript, forModel } from "../Transcript.ts"
import * as Calls from "./Calls.ts"
import * as Evaluation from "./Evaluation.ts"
import * as Preferences from "./Preferences.ts"
import type { PromptSets } from "./PromptSets.ts"
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
export const run = Effect.fn("ConstitutionalAi.run")(
  function* (settings: Settings, sets: PromptSets) {
    const folder = yield* Run

    const revised = yield* Supervised.answers(settings, sets.supervised)
    const supervised = yield* Supervised.train(settings, revised)

    const preferences = yield* Preferences.collect(settings, sets.preferences, supervised)
    const rewardModel = yield* Reinforcement.reward(settings, preferences.training)
    const reinforced = yield* Reinforcement.policy(settings, preferences.training, sets.preferences, rewardModel)

    const results = yield* Evaluation.evaluate(settings, sets, {
      supervised,
      reinforced,
      rewardModel,
      heldOut: preferences.heldOut
    })
    const { name } = yield* Evaluator
    const evaluated = { results, heldOut: sets.heldOut, prompts: sets.evaluation.length, evaluator: name }
    const summary = yield* Summary.make(evaluated)
    yield* folder.write("summary.json", summary)
    return summary
  },
  (self) =>
    Effect.flatMap(Models, (models) =>
      self.pipe(
        Effect.provideService(Transcript, forModel(models)),
        Effect.provideService(Models, Calls.models(models)),
        withinBudget
      )
    )
)

/** Where there is a budget, the run ends before the first call that could exceed it; a later start goes on. */
const withinBudget = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.serviceOption(Budget.Budget), (budget) =>
    Option.isNone(budget) ? self : Effect.provideService(Budget.guard(self), Budget.Budget, budget.value)
  )
