/**
 * The engine on its own: checkpoints, graphs, gradients and optimizers on ONNX Runtime, and the programs made of them.
 *
 * It knows tokens and adapters; what they are asked for is the affair of the stages.
 *
 * @example
 * import { Graph, Objective, Op } from "charter-ai/engine"
 */

// ONNX Runtime, as a compiler target.
export * as Device from "../onnx/Device.ts"
export * as Gradient from "../onnx/Gradient.ts"
export * as Graph from "../onnx/Graph.ts"
export * as Op from "../onnx/Op.ts"
export * as Session from "../onnx/Session.ts"

// Models as they lie on the disk.
export * as ChatTemplate from "../model/ChatTemplate.ts"
export * as Checkpoint from "../model/Checkpoint.ts"
export * as HubModel from "../model/HubModel.ts"
export * as Lora from "../model/Lora.ts"
export * as ModelConfig from "../model/ModelConfig.ts"
export * as Safetensors from "../model/Safetensors.ts"
export * as Tokenizer from "../model/Tokenizer.ts"
export * as Transformer from "../model/Transformer.ts"

// Programs over one network: decode, score, learn.
export * as Adapters from "./Adapters.ts"
export * as Advantages from "./Advantages.ts"
export * as Base from "./Base.ts"
export * as Batch from "./Batch.ts"
export * as Decoder from "./Decoder.ts"
export * as Forward from "./Forward.ts"
export * as Kl from "./Kl.ts"
export * as Layout from "./Layout.ts"
export * as Learner from "./Learner.ts"
export * as Minibatches from "./Minibatches.ts"
export * as Objective from "./Objective.ts"
export * as Optimizer from "./Optimizer.ts"
export * as Packing from "./Packing.ts"
export * as PolicyGradient from "./PolicyGradient.ts"
export * as PolicyUpdate from "./PolicyUpdate.ts"
export * as Rollouts from "./Rollouts.ts"
export * as Sampling from "./Sampling.ts"
export * as Scorer from "./Scorer.ts"
export * as Trainables from "./Trainables.ts"
export * as Training from "./Training.ts"
export * as TrainingData from "./TrainingData.ts"
export * as TrainingState from "./TrainingState.ts"

// The engine as a service: one set of handlers, in process or in a worker thread.
export * as Engine from "./Engine.ts"
export * as EngineRpc from "./EngineRpc.ts"
export * as EngineWorker from "./EngineWorker.ts"
