import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Calibration from "../../src/engine/Calibration.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as ModelConfig from "../../src/model/ModelConfig.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import * as Golden from "./golden.ts"

const first = "model.layers.0.input_layernorm"

describe("Calibration", () => {
  it.live.each(Golden.models)("sees each channel of what enters the linear maps of %s", (model) =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(Golden.folderOf(model))
      const activations = yield* Calibration.activations(checkpoint)
      const maps = ModelConfig.linears(checkpoint.config)
      expect([...activations.keys()].sort()).toEqual(maps.map(({ path }) => path).sort())
      for (const { in: inputs, norm, path } of maps) {
        const seen = activations.get(path)!
        expect(seen.length).toBe(inputs)
        expect(seen.every((x) => Number.isFinite(x) && x > 0)).toBe(true)
        // A norm's result has a mean square of 1 before its weight, so of 512 tokens some channel is beyond it.
        if (norm !== undefined) expect(Math.max(...seen)).toBeGreaterThan(1)
      }
      expect(yield* Calibration.activations(checkpoint)).toEqual(activations)
    })
  )

  it.live("sees in the first layer the norms of embedded tokens", () =>
    Effect.gen(function* () {
      const { config, tensors } = yield* Checkpoint.open(Golden.folder)
      const floats = (name: string) => Safetensors.load(tensors.get(name)!)
      const [embedding, weight] = [yield* floats("model.embed_tokens.weight"), yield* floats(`${first}.weight`)]
      const most = new Float64Array(config.hiddenSize)
      for (let token = 0; token < config.vocabSize; token++) {
        const x = embedding.subarray(token * config.hiddenSize, (token + 1) * config.hiddenSize)
        const root = Math.sqrt(x.reduce((sum, x) => sum + x * x, 0) / x.length + config.normEps)
        x.forEach((x, j) => (most[j] = Math.max(most[j]!, Math.abs((x / root) * weight[j]!))))
      }
      const activations = yield* Calibration.activations(yield* Checkpoint.open(Golden.folder))
      const shares = [...activations.get("model.layers.0.self_attn.q_proj")!].map((x, j) => x / most[j]!)
      expect(Math.max(...shares)).toBeLessThan(1 + 1e-5)
      // Of 320 tokens four in five are among those that are drawn.
      expect(shares.filter((share) => share > 1 - 1e-5).length).toBeGreaterThan(shares.length / 2)
    })
  )
})
