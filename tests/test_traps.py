"""Known mistakes of this kind of code, each with a test that fails if it is made again.

Most were found in published code; see jobs/PUBLISHED.md. A mistake that this code cannot make yet has no test but says
what it would need: whoever adds that must add the test.
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TRAPS = {
    # quantizers
    "Ranks update codebooks from their own vectors instead of the sums over all ranks.": (
        "models/test_ranks.py::test_two_ranks_equal_one_rank_with_the_whole_batch"
    ),
    "Dead codes are replaced by other vectors on each rank, or keep their old counts and sums.": (
        "models/test_ranks.py::test_quantizer_state_is_bit_equal_on_every_rank_after_every_step"
    ),
    "Counts of the moving averages start at 0, so that unused codes move far away in the first step.": (
        "models/quantize/test_ema.py::test_codes_that_no_vector_chose_stay_where_they_are"
    ),
    "k-means starts a codebook again after a resume, or from evaluation data.": (
        "models/quantize/test_ema.py::test_k_means_starts_once_from_training_data"
    ),
    "β weighs the codebook's loss instead of the encoder's, or gradients reach codes that are moving averages.": (
        "models/quantize/test_ema.py::test_beta_weighs_the_encoder_term_and_no_gradient_reaches_the_codes"
    ),
    "Losses are sums, so that their weights depend on the batch size.": (
        "models/quantize/test_quantizers.py::test_losses_do_not_depend_on_how_often_the_batch_is_repeated"
    ),
    "A residual quantizer applies the straight-through gradient at every stage.": "needs a residual quantizer",
    "Distances, assignments and moving averages are computed in bfloat16.": (
        "models/quantize/test_quantizers.py::test_float32_inside_autocast"
    ),
    "|x|² - 2xe + |e|² cancels if vectors have a large common offset.": (
        "models/quantize/test_kernels.py::test_a_common_offset_does_not_cancel_the_answer_away"
    ),
    "Codebooks learn in evaluation, without gradients, or more than once a step.": (
        "models/quantize/test_quantizers.py::test_evaluation_and_no_grad_change_nothing"
    ),
    "A ReLU before the quantizer keeps encoder outputs on one side of 0.": (
        "models/test_vqvae.py::test_encoder_outputs_lie_on_both_sides_of_zero_unless_as_published"
    ),
    "Each rank's BatchNorm normalizes with its own part of the batch.": (
        "models/test_ranks.py::test_batch_norm_uses_the_global_batch"
    ),
    "Gradients flow into the target of a stacked level, so that a lower level can shrink it.": (
        "models/test_svqvae.py::test_no_gradient_flows_into_the_target_of_a_stacked_level"
    ),
    "Indices change their shape or type.": "models/quantize/test_quantizers.py::test_shapes_and_types",
    "The number of codes is taken for their length.": (
        "models/quantize/test_ema.py::test_codebook_is_codes_by_dimension"
    ),
    "The rotation trick divides by the norm of a zero vector.": "needs the rotation trick",
    "FSQ with an even number of levels leaves out a level, or gives two codes one index.": (
        "models/quantize/test_quantizer_kinds.py::test_every_index_is_reachable_and_stands_for_one_code"
    ),
    # losses and images
    "SSIM is computed with another data range than the pixels have.": (
        "metrics/test_similarity.py::test_the_range_must_be_the_true_one"
    ),
    "SSIM differs from the reference implementation.": "metrics/test_similarity.py::test_ssim_is_scikit_images",
    "A black background raises the mean SSIM.": (
        "metrics/test_similarity.py::test_a_black_background_is_not_counted_in_the_foreground"
    ),
    "The PSNR of the mean error is reported as the mean PSNR.": (
        "metrics/test_similarity.py::test_mean_of_psnrs_is_not_psnr_of_the_mean"
    ),
    "Targets have a range that the last activation cannot reach.": (
        "train/test_tasks.py::test_pixels_are_in_the_range_that_the_model_can_put_out"
    ),
    "A perceptual loss gets grey images, or pixels in another range.": "needs a perceptual loss",
    # evaluation
    "Test data choose the epoch.": (
        "train/test_objectives.py::test_validation_picks_the_epoch_where_test_would_pick_another"
    ),
    "Images of one patient or lesion are in two splits.": (
        "shards/sampling/test_split.py::test_a_group_in_two_splits_is_refused"
    ),
    "Pretraining has seen the test images.": (
        "launch/test_plan.py::test_training_images_of_a_needed_run_in_the_test_split_are_a_leak"
    ),
    "Channel statistics include validation or test images.": (
        "shards/pack/test_pack.py::test_statistics_are_those_of_the_training_pixels"
    ),
    "Evaluation draws classes equally often.": "train/test_evaluate.py::test_a_balanced_draw_is_for_training_alone",
    "Subsets of few labels are not nested.": "shards/load/test_view.py::test_subsets_nest",
    "A frozen encoder changes its BatchNorm or codebook statistics.": (
        "train/test_objectives.py::test_a_frozen_encoder_keeps_every_weight_buffer_and_mode"
    ),
    "FID is computed from few images, or compared across numbers of images.": "needs FID",
    "Distributed evaluation counts padded samples twice.": (
        "shards/load/test_loader.py::test_evaluation_is_every_sample_once_in_any_world"
    ),
    "The perplexity of a split is the mean over its batches.": (
        "train/test_evaluate.py::test_counts_of_a_split_are_summed_before_the_perplexity_is_taken"
    ),
    "Cross-entropy gets probabilities instead of logits.": (
        "train/test_objectives.py::test_logits_go_into_cross_entropy_and_as_published_their_softmax"
    ),
    "Evaluation builds gradients, or leaves the model in another mode.": (
        "train/test_evaluate.py::test_evaluation_keeps_no_graph_and_no_mode"
    ),
}


@pytest.mark.parametrize("mistake", TRAPS)
def test_the_test_of_each_mistake_exists(mistake):
    file, _, name = TRAPS[mistake].partition("::")
    if file.endswith(".py"):
        assert re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE)
    else:
        assert file.startswith("needs ")
