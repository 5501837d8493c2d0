/**
 * Recipe: what a recipe needs around it: the transcript that fits the models, a memory of finished calls, a budget.
 */
import { Effect, Option } from "effect"
import { Models } from "../Models.ts"
import * as Budget from "../providers/http/Budget.ts"
import * as Transcript from "../Transcript.ts"
import * as Calls from "./Calls.ts"

/**
 * Puts a recipe into its surroundings. Where a budget is provided, the run ends before the first call that could exceed
 * it, and a later start goes on.
 *
 * @example
 * const supervised = yield* Supervised.run(settings, prompts).pipe(Recipe.provide)
 */
export const provide = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Models, (models) =>
    self.pipe(
      Effect.provideService(Transcript.Transcript, Transcript.forModel(models)),
      Effect.provideService(Models, Calls.models(models)),
      withinBudget
    )
  )

const withinBudget = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.serviceOption(Budget.Budget), (budget) =>
    Option.isNone(budget) ? self : Effect.provideService(Budget.guard(self), Budget.Budget, budget.value)
  )
