"""Every known trap of this kind of code, and the tests that turn red when it is put back, or why there is none."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TRAPS = {
    "T1": "models/test_ranks.py::test_t1_t4_two_ranks_equal_one_rank_with_the_whole_batch",
    "T2": "models/test_ranks.py::test_t1_t2_quantizer_state_is_bit_equal_on_every_rank_after_every_step",
    "T3": "models/quantize/test_ema.py::test_t3_codes_that_no_vector_chose_stay_where_they_are",
    "T4": "models/quantize/test_ema.py::test_t4_k_means_starts_once_from_training_data",
    "T5": "models/quantize/test_ema.py::test_t5_beta_weighs_the_encoder_term_and_no_gradient_reaches_the_codes",
    "T6": "models/quantize/test_quantizers.py::test_t6_losses_do_not_depend_on_how_often_the_batch_is_repeated",
    "T7": "there is no residual quantizer",
    "T8": "models/quantize/test_quantizers.py::test_t8_float32_inside_autocast",
    "T9": "models/quantize/test_kernels.py::test_t9_a_common_offset_does_not_cancel_the_answer_away",
    "T10": "models/quantize/test_quantizers.py::test_t10_evaluation_and_no_grad_change_nothing",
    "T11": "models/test_vqvae.py::test_t11_encoder_outputs_lie_on_both_sides_of_zero_unless_as_published",
    "T12": "models/test_ranks.py::test_t12_batch_norm_uses_the_global_batch",
    "T13": "models/test_svqvae.py::test_t13_no_gradient_flows_into_the_target_of_a_stacked_level",
    "T14": "models/quantize/test_quantizers.py::test_t14_shapes_and_types",
    "T15": "models/quantize/test_ema.py::test_t15_codebook_is_codes_by_dimension",
    "T16": "there is no rotation trick",
    "T17": "models/quantize/test_quantizer_kinds.py::test_t17_every_index_is_reachable_and_stands_for_one_code",
    "E1": "metrics/test_similarity.py::test_e1_the_range_must_be_the_true_one",
    "E2": "metrics/test_similarity.py::test_e2_ssim_is_scikit_images",
    "E3": "metrics/test_similarity.py::test_e3_a_black_background_is_not_counted_in_the_foreground",
    "E4": "metrics/test_similarity.py::test_e4_mean_of_psnrs_is_not_psnr_of_the_mean",
    "E5": "train/test_tasks.py::test_pixels_are_in_the_range_that_the_model_can_put_out",
    "E6": "there is no perceptual loss",
    "X1": "train/test_objectives.py::test_validation_picks_the_epoch_where_test_would_pick_another",
    "X2": "shards/sampling/test_split.py::test_a_group_in_two_splits_is_refused",
    "X3": "launch/test_plan.py::test_training_images_of_a_needed_run_in_the_test_split_are_a_leak",
    "X4": "shards/pack/test_pack.py::test_statistics_are_those_of_the_training_pixels",
    "X5": "train/test_evaluate.py::test_x5_a_balanced_draw_is_for_training_alone",
    "X6": "shards/load/test_view.py::test_subsets_nest",
    "X7": "train/test_objectives.py::test_x7_a_frozen_encoder_keeps_every_weight_buffer_and_mode",
    "X8": "there is no FID",
    "X9": "shards/load/test_loader.py::test_evaluation_is_every_sample_once_in_any_world",
    "X10": "train/test_evaluate.py::test_x10_counts_of_a_split_are_summed_before_the_perplexity_is_taken",
    "X11": "train/test_objectives.py::test_x11_logits_go_into_cross_entropy_and_as_published_their_softmax",
    "X12": "train/test_evaluate.py::test_x12_evaluation_keeps_no_graph_and_no_mode",
}


@pytest.mark.parametrize("trap", TRAPS)
def test_what_the_table_names_is_there(trap):
    file, _, name = TRAPS[trap].partition("::")
    if file.endswith(".py"):
        assert re.search(rf"def {name}\b", (TESTS / file).read_text())
    else:
        assert file.startswith("there is no")


def test_tests_named_after_a_trap_are_of_a_trap_in_the_table():
    named = {
        trap.upper()
        for path in TESTS.rglob("test_*.py")
        for found in re.findall(r"def test((?:_[tex]\d+)+)_", path.read_text())
        for trap in found.strip("_").split("_")
    }
    assert named <= set(TRAPS)
    assert {t for t in TRAPS if t[0] == "T" and not TRAPS[t].startswith("there")} <= named
