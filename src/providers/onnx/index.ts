/** The ONNX provider: models of a Hugging Face folder, run in this process's own engine. */
export * as OnnxDecisionModel from "./OnnxDecisionModel.ts"
export * as OnnxLanguageModel from "./OnnxLanguageModel.ts"
export * as OnnxModels from "./OnnxModels.ts"
