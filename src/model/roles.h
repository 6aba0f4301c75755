/* Roles told by the flat path text alone, for containers that say nothing of their own: the same
 * name has the same role in every format, so that a model's digest does not depend on it.
 *
 * counter    *.num_batches_tracked; step, n_averaged at the top
 * statistic  *.running_mean, *.running_var, batch_stats.*; in a module mean_ema or var_ema (Haiku's
 *            averages), average and hidden: statistic, counter: counter; below ema_state_index and
 *            batch_state_index (Equinox's states) statistic, *.ema_first_time_index and
 *            *.batch_counter: counter
 * in opt_state.*, optimizer.*, optimizer_states.*, state.NUMBER.*, optim.state.*, lr_scheduler.*:
 *            a segment mu, trace, exp_avg, momentum_buffer: moment1; nu, exp_avg_sq,
 *            sum_of_squares, nu_max, e_g, e_x: moment2; count, step, iter as the last segment:
 *            counter;
 * anything else: other. A moment's `of` is the tensor params.REST, REST being what follows that
 * segment. TensorFlow: VARIABLE.\.OPTIMIZER_SLOT.OPTIMIZER.SLOT, and VARIABLE.SLOT where VARIABLE
 * is a tensor and SLOT is Adam, Momentum, adam_m (moment1), Adam_1, RMSProp, Adagrad, adam_v
 * (moment2), RMSProp_1 and other slots (other), ExponentialMovingAverage (ema); of: VARIABLE.
 *            global_step, save_counter at the top: counter. *.beta1_power, *.beta2_power: other.
 *            *.moving_mean, *.moving_variance: statistic. Keras's optimizers in object graphs, as
 *            [PATH.]optimizer.REST: _iterations, step_counter, iter: counter; _variables.*,
 *            inner_optimizer.*, _learning_rate, dynamic_scale, beta_1 and the like: other;
 *            _trainable_variables.*: parameter
 * Keras:     optimizer_weights.*: *.iteration, *.iter: counter; OPTIMIZER.SLOT.LAYER.REST and
 *            OPTIMIZER.LAYER.REST.SLOT (of a LossScaleOptimizer without OPTIMIZER, or with cond_N
 *            before it) with the slots m, momentum, average_gradient, mg: moment1;
 *            v, vhat, v_hat, rms, velocity, accumulator, u, accum_grad and the like: moment2; of:
 *            LAYER.LAYER.REST.
 *            *_momentum: moment1; *_velocity: moment2; else other.
 *            optimizer.vars.0: counter. *.seed_generator_state, *.seed_generator.vars.*: rng.
 *            *.batch_normalization*.vars.N: the last two of a layer's, with renormalisation the
 *            last five, are statistics. metrics.*.vars.N: other. A last ":0" is not looked at
 * in a checkpoint that is a tuple: N.N.mu.REST (nu, trace) with the tensor 0.REST: its moment;
 *            N.N.count: counter (any number of Ns above one, the first not 0)
 * Flax before 0.6, T5X: [KEY.]state.param_states.REST.SLOT where [KEY.]target.REST is a tensor
 * (of): grad_ema, momentum, m: moment1; grad_sq_ema, v, G, sq_avg: moment2; else other.
 *            [optimizer.]state.step: counter. optimizer.target.*: parameter
 * ema        ema.*, ema_params.* (of: params.REST)
 * loss scale PATH.fin_steps with PATH.scale: counter, other; PATH.counter with PATH.period:
 *            counter, and loss_scale, period, factor, min_loss_scale there: other (without axes)
 * rng, cache rng.*, rngs.*, *.rngs.* (the streams of an NNX module); cache.*
 * parameter  everything else
 */
#ifndef MODEL_ROLES_H
#define MODEL_ROLES_H
#include "model/model.h"

/* After model_finish. Touches role and of of every tensor, requires_grad of those that are no
 * parameter. */
MUSTCHECK enum status roles_by_name(struct model *m, struct err *e);
#endif
