/**
 * Reinforcement learning on a reward of one's own: anything that gives an answer a number, such as a test that code
 * passes, a classifier, or, here, the wish for short answers.
 *
 * Each iteration is a stream of its own, so that all of its answers are the policy's before its update. The adapter that
 * comes out is a PEFT folder.
 *
 *     npm run build && node examples/own-reward.ts assets/sandbox runs/brief
 */
import { Console, Effect, Stream } from "effect"
import { Models, Policy, PolicyUpdate, Rollout, Sample, Stage } from "charter-ai"
import { OnnxModels } from "charter-ai/providers/onnx"

/** One for each ten words that an answer is shorter than thirty, and one less for an answer without an end. */
export const brevity = Stage.make("Brevity", (rollout: Sample.Rollout) => {
  const words = rollout.text.split(/\s+/).length
  // Rewards about zero are learnt sooner: the value function begins there.
  const score = 3 - words / 10 - (rollout.finish === "stop" ? 0 : 1)
  return Effect.succeed(Sample.reward({ rollout, score, reward: score, model: "brevity" }))
})

const prompts = ["How do I bake a cake?", "How do I learn to swim?"].map((text) => Sample.prompt(text))

/** Improves a new adapter on the model that is provided, and saves it; the mean reward of each iteration. */
export const program = Effect.fn(function* (out: string, iterations = 10) {
  const { policy: begin } = yield* Models.Models
  const policy = yield* begin("brief", { _tag: "fresh", rank: 8, alpha: 16, seed: 1 })
  const iteration = (iteration: number) =>
    Stream.fromIterable(prompts).pipe(
      Rollout.stage({ iteration, samples: 32, maxTokens: 60, temperature: 1 }),
      brevity,
      Stream.runCollect,
      Effect.flatMap((rewards) => {
        const rates = { learningRate: 3e-3, valueLearningRate: 1e-2 }
        const how = { iteration, iterations, ...rates, epochs: 2, stateDir: `${out}/state` }
        return PolicyUpdate.one(rewards, Policy.updateOptions(how))
      }),
      Effect.tap(({ reward }) => Console.log(`update ${iteration + 1}: mean reward ${reward.toFixed(2)}`))
    )
  const metrics = yield* Stream.range(0, iterations - 1).pipe(
    Stream.mapEffect(iteration),
    Stream.runCollect,
    Effect.provideService(Policy.Policy, policy)
  )
  yield* policy.save(out)
  return metrics.map(({ reward }) => reward)
})

if (import.meta.main) {
  const [dir = "assets/sandbox", out = "runs/brief"] = process.argv.slice(2)
  await Effect.runPromise(Effect.provide(program(out), OnnxModels.layer({ dir })))
}
