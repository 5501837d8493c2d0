/**
 * Named: the name of the model in force, as `effect/ai` asks for it.
 *
 * @internal
 */
import { Effect, Layer } from "effect"
import type { Context } from "effect"
import { Model } from "effect/ai"

/** The name of the model that a service, such as a client or a policy, says it has. */
export const layer = <I, S extends { readonly model: string }>(
  service: Context.Key<I, S>
): Layer.Layer<Model.ModelName, never, I> =>
  Layer.effect(
    Model.ModelName,
    Effect.map(service, ({ model }) => model)
  )
